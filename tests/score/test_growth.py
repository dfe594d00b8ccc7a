"""The same command on inputs that have grown keeps what is still right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from typer.testing import CliRunner, Result

from tests.score.small_run import make_adapter, make_run
from trec_cli.commands.app import app
from trec_cli.core.jsonl import encode_all, read_examples, read_items, read_summaries
from trec_cli.core.manifest import read_manifest
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Item

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"train": 4, "test": 8})


@pytest.fixture
def model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model("llama")


def trec(run: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", str(run), *map(str, arguments)])


def fields(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def grow(run: Path) -> None:
    """Add an item, a click of one user and two questions."""
    items = [*read_items(run / "items.jsonl").values(), Item("new", {"title": "New thing"})]
    write_lines(run / "items.jsonl", encode_all(items))
    examples = read_examples(run / "examples.jsonl")
    examples[6] = structs.replace(examples[6], history=[*examples[6].history, "new"])
    more = [structs.replace(examples[7], example_id=f"more-{n}") for n in range(2)]
    write_lines(
        run / "examples.jsonl", encode_all([*examples[:5], more[0], *examples[5:], more[1]])
    )
    summaries = read_summaries(run / "summaries-hier.jsonl")
    new = [structs.replace(summaries["test-3"], example_id=e.example_id) for e in more]
    write_lines(run / "summaries-hier.jsonl", encode_all([*summaries.values(), *new]))


@pytest.mark.parametrize("top", [[], ["--top", "2"]])
def test_what_a_model_was_asked_before_is_kept_and_the_rest_scored(
    run: Path, model: Path, tmp_path: Path, top: list[str]
) -> None:
    words = ["--zero-shot", "--model", model, "--max-tokens", 100, "--name", "x", "--json", *top]
    assert "kept" not in fields(trec(run, *words))
    grow(run)
    result = trec(run, *words)
    told = fields(result)
    assert (told["kept"], told["remade"], told["added"]) == (7, 1, 2)
    assert "kept the scores of 7 examples, scored 1 again and 2 new ones" in result.stderr
    assert told["users"] == 3
    fresh = make_run(tmp_path / "fresh", {"train": 4, "test": 8})
    grow(fresh)
    assert trec(fresh, *words).exit_code == 0
    name = "recommendations-x.jsonl" if top else "scores-x.jsonl"
    assert (run / name).read_bytes() == (fresh / name).read_bytes()
    assert "nothing to do" in trec(run, *words).stderr


def test_who_shares_a_batch_with_other_users_now_is_scored_again(
    run: Path, model: Path, tmp_path: Path
) -> None:
    words = ["--zero-shot", "--model", model, "--name", "x", "--json"]  # several users a batch
    trec(run, *words)
    grow(run)
    told = fields(trec(run, *words))
    assert told["kept"] + told["remade"] == 8
    assert told["added"] == 2
    fresh = make_run(tmp_path / "fresh", {"train": 4, "test": 8})
    grow(fresh)
    trec(fresh, *words)
    assert (run / "scores-x.jsonl").read_bytes() == (fresh / "scores-x.jsonl").read_bytes()


@pytest.mark.parametrize("scorer", ["cooccurrence", "bm25", "blend"])
def test_a_scorer_that_learns_starts_again(run: Path, tmp_path: Path, scorer: str) -> None:
    words = ["--scorer", scorer, "--json"]
    trec(run, *words)
    grow(run)
    told = fields(trec(run, *words))
    assert (told["kept"], told["remade"], told["added"]) == (0, 8, 2)
    fresh = make_run(tmp_path / "fresh", {"train": 4, "test": 8})
    grow(fresh)
    trec(fresh, *words)
    name = f"scores-{scorer}.jsonl"
    assert (run / name).read_bytes() == (fresh / name).read_bytes()


def test_an_output_without_keys_is_scored_again(run: Path, model: Path) -> None:
    words = ["--zero-shot", "--model", model, "--max-tokens", 100, "--name", "x", "--json"]
    trec(run, *words)
    keys = run / ".scores-x.jsonl.keys"
    keys.write_bytes(keys.read_bytes()[:40])
    grow(run)
    told = fields(trec(run, *words))
    assert (told["kept"], told["remade"], told["added"]) == (0, 8, 2)


def test_scores_that_somebody_has_changed_are_not_kept(run: Path, model: Path) -> None:
    words = ["--zero-shot", "--model", model, "--max-tokens", 100, "--name", "x", "--json"]
    trec(run, *words)
    out = run / "scores-x.jsonl"
    out.write_bytes(out.read_bytes().replace(b'"scores":[', b'"scores":[9', 1))
    grow(run)
    assert fields(trec(run, *words))["kept"] == 0


def test_a_lost_example_another_setting_and_another_adapter_are_no_growth(
    run: Path, model: Path
) -> None:
    make_adapter(run, model, run / "model-hier")
    assert trec(run).exit_code == 0
    grow(run)
    refused = trec(run, "--max-tokens", 999)
    assert refused.exit_code == 2
    assert "--max-tokens 4096 before, 999 now" in refused.stderr
    weights = run / "model-hier" / "adapter_model.safetensors"
    before = weights.read_bytes()
    make_adapter(run, model, run / "model-hier", recent=1)
    refused = trec(run)
    assert refused.exit_code == 2
    assert weights.read_bytes() == before  # the prompt alone is another one
    make_adapter(run, model, run / "model-hier")
    lines = (run / "examples.jsonl").read_bytes().splitlines(keepends=True)
    (run / "examples.jsonl").write_bytes(b"".join(lines[:-2]))
    refused = trec(run)
    assert refused.exit_code == 2
    assert "other content now in" in refused.stderr


def test_a_killed_run_on_grown_inputs_goes_on(run: Path, model: Path, tmp_path: Path) -> None:
    words = ["--zero-shot", "--model", model, "--max-tokens", 100, "--name", "x", "--json"]
    trec(run, *words)
    grow(run)
    trec(run, *words)
    done = (run / "scores-x.jsonl").read_bytes()
    manifest = read_manifest(run / "scores-x.jsonl")
    assert manifest is not None
    # What a kill leaves after some batches: the older output, and a journal of the new inputs.
    other = make_run(tmp_path / "other", {"train": 4, "test": 8})
    trec(other, *words)
    grow(other)
    header = json.dumps({"settings": manifest["settings"]}).encode() + b"\n"
    (other / ".scores-x.jsonl.partial").write_bytes(header + done.splitlines(keepends=True)[0])
    told = fields(trec(other, *words))
    assert (told["kept"], told["remade"], told["added"]) == (7, 1, 2)
    assert (other / "scores-x.jsonl").read_bytes() == done
