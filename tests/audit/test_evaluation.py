"""The audit in ``trec eval``: the row without user, differences to it, warnings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.audit.worlds import World, make
from tests.evaluate.folder import write
from trec_cli.audit.features import EMBEDDING
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_items
from trec_cli.core.manifest import Provenance
from trec_cli.core.records import Example
from trec_cli.models.vector_store import TextKeys, VectorStore
from trec_cli.models.vectors import embedding_text

LEAK = World(
    train=120,
    valid=10,
    test=60,
    history=lambda random, _: int(random.integers(100)),
    wrong=lambda random, _: int(random.integers(100)),
    right=lambda random, _: int(100 + random.integers(50)),
)
CLEAN = World(train=120, valid=10, test=60)


def run_eval(*arguments: object) -> Result:
    fast = ("--bootstrap", "50", "--permutations", "2000")
    return CliRunner().invoke(app, ["eval", *map(str, arguments), *fast])


def make_run(folder: Path, world: World) -> tuple[Path, list[Example]]:
    items, examples = make(world, 1)
    write(folder / "items.jsonl", [{"item_id": i.item_id, **i.attributes} for i in items.values()])
    write(folder / "examples.jsonl", map(msgspec.to_builtins, examples))
    random = np.random.default_rng(0)
    good, blind = [], []
    for example in examples:
        if example.split == "test":
            right = [item in example.positives for item in example.candidates]
            line = {name: getattr(example, name) for name in _FIELDS}
            good.append(
                {**line, "scores": (np.array(right) + random.normal(size=11) * 0.3).tolist()}
            )
            blind.append({**line, "scores": random.normal(size=11).tolist()})
    write(folder / "scores-good.jsonl", good)
    write(folder / "scores-noise.jsonl", blind)
    return folder, examples


_FIELDS = ("example_id", "user_id", "split", "candidates", "positives")


def evaluated(run: Path, *arguments: object) -> tuple[Result, dict[str, Any]]:
    result = run_eval(run, *arguments)
    assert result.exit_code == 0, result.stderr
    return result, json.loads((run / "metrics.json").read_text())


def test_the_row_without_user_stands_beside_chance(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, LEAK)
    result, metrics = evaluated(run)
    assert "a model that never sees the user gets AUC 1.000" in result.stderr
    lines = [line.split()[0:2] for line in result.stdout.splitlines() if line.strip()]
    assert ["no", "user"] in lines
    audit = metrics["audit"]
    assert set(audit["no_user"]) == set(metrics["chance"])
    assert audit["no_user"]["mrr@10"]["value"] == pytest.approx(1, abs=0.01)
    assert audit["no_user"]["auc"]["low"] > audit["level"]
    assert audit["signals"]["in no history"] == pytest.approx(1)
    assert "no user" not in metrics["systems"], "it is no system of the user's"


def test_differences_to_the_model_without_user_are_paired_and_tested(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, LEAK)
    _, metrics = evaluated(run)
    found = {(d["system"], d["metric"]): d for d in metrics["audit"]["differences"]}
    for name, system in metrics["systems"].items():
        difference = system["ndcg@10"]["value"] - metrics["audit"]["no_user"]["ndcg@10"]["value"]
        assert found[name, "ndcg@10"]["difference"] == pytest.approx(difference)
    assert found["noise", "ndcg@10"]["p_holm"] < 0.05
    assert found["noise", "ndcg@10"]["reference"] == "no user"


def test_a_system_that_is_not_better_is_named(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, CLEAN)
    result, metrics = evaluated(run)
    said = " ".join(result.stdout.split())
    assert "Not significantly better than it in ndcg@10: noise." in said
    assert "warning: a model" not in result.stderr
    assert (
        metrics["audit"]["no_user"]["auc"]["low"] < 0.5 < metrics["audit"]["no_user"]["auc"]["high"]
    )
    assert metrics["audit"]["no_text"]["auc"]["value"] < 0.65


def test_the_report_has_the_audit(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, LEAK)
    evaluated(run)
    page = (run / "report.html").read_text()
    for part in ('<section id="audit">', "compare with the row", "in no history", "no user"):
        assert part in page


def test_no_audit_leaves_it_out(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, LEAK)
    result, metrics = evaluated(run, "--no-audit")
    assert "audit" not in metrics
    assert "no user" not in result.stdout
    manifest = json.loads((run / "metrics.json.manifest.json").read_text())
    assert manifest["settings"]["audit"] is False
    again = run_eval(run)
    assert again.exit_code == 2, "other settings need --overwrite"


def test_the_default_leaves_no_trace_in_the_settings(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, CLEAN)
    evaluated(run)
    settings = json.loads((run / "metrics.json.manifest.json").read_text())["settings"]
    assert not {"audit", "missed", "full"} & set(settings)
    assert "nothing to do" in run_eval(run).stderr


def test_scores_in_another_order_of_candidates_get_the_same_row(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "a", LEAK)
    other, _ = make_run(tmp_path / "b", LEAK)
    lines = [json.loads(text) for text in (other / "scores-good.jsonl").read_text().splitlines()]
    for line in lines:
        line["candidates"], line["scores"] = line["candidates"][::-1], line["scores"][::-1]
    write(other / "scores-good.jsonl", lines[::-1])
    (_, one), (_, two) = evaluated(run), evaluated(other)
    for metric, entry in one["audit"]["no_user"].items():
        assert two["audit"]["no_user"][metric]["value"] == pytest.approx(entry["value"])


def test_other_candidates_than_the_examples_have_no_row_but_an_audit(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, LEAK)
    for name in ("good", "noise"):
        path = run / f"scores-{name}.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        for line in lines:
            line["candidates"] = [*line["candidates"], "another"]
            line["scores"] = [*line["scores"], 0.0]
        write(path, lines)
    result, metrics = evaluated(run)
    assert set(metrics["audit"]["no_user"]) == {"auc"}
    assert "differences" not in metrics["audit"]
    assert "warning: a model that never sees the user" in result.stderr


def test_a_missed_positive_is_missed_by_the_model_without_user_too(tmp_path: Path) -> None:
    run, examples = make_run(tmp_path, LEAK)
    asked = [msgspec.to_builtins(example) for example in examples]
    last = asked[-1]
    last["missed"], last["positives"] = ["elsewhere"], []
    write(run / "examples.jsonl", asked)
    for name in ("good", "noise"):
        path = run / f"scores-{name}.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        lines[-1]["positives"] = ["elsewhere"]
        write(path, lines)
    _, metrics = evaluated(run, "--missed", "count")
    assert metrics["audit"]["no_user"]["recall@10"]["value"] == pytest.approx(59 / 60, abs=0.02)
    assert metrics["protocol"]["positives_missed"] == 1


def test_faulty_examples_are_named(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, CLEAN)
    with (run / "examples.jsonl").open("a") as stream:
        stream.write('{"example_id": 3}\n')
    result = run_eval(run)
    assert result.exit_code == 3
    assert "examples.jsonl, line 191" in result.stderr


def prepare(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return {**told, "stderr": result.stderr}


def test_prepare_shows_the_audit_of_what_it_wrote(tmp_path: Path) -> None:
    told = prepare("samples/shop", "--out", tmp_path)
    assert "a model that never sees the user" in told["stderr"]
    assert "Without the user (split test" in told["stderr"]
    assert told["audit"]["questions"] == told["counts"]["splits"]["test"]["examples"]
    (manifest,) = tmp_path.glob("examples.jsonl.manifest.json")
    assert json.loads(manifest.read_bytes())["audit"] == told["audit"]
    assert "audit" not in prepare("samples/shop", "--out", tmp_path / "dry", "--dry-run")


@pytest.mark.parametrize(("population", "alarming"), [("catalogue", True), ("auto", False)])
def test_the_shortcut_of_mind_is_found_and_gone(
    tmp_path: Path, real_data: Callable[[str], Path], population: str, alarming: bool
) -> None:
    source = (real_data("mind"), "--target", "impression", "--min-history", 5)
    sizes = ("--train-users", 1110, "--valid-users", 150, "--test-users", 400)
    how = ("--negatives", "popularity", "--population", population)
    told = prepare(*source, *sizes, *how, "--out", tmp_path)
    area = told["audit"]["no_user"]["auc"]
    assert (area["value"] > 0.98) == alarming
    assert (area["low"] < 0.55) != alarming
    assert ("warning: a model that never sees the user" in told["stderr"]) == alarming
    if alarming:
        assert told["audit"]["signals"]["in no history"] > 0.95


def test_top_lists_that_all_systems_share_have_the_row_too(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, LEAK)
    _, metrics = evaluated(run, "--full")
    assert metrics["audit"]["no_user"]["recall@10"]["value"] == pytest.approx(1, abs=0.02)
    assert metrics["chance"]["recall@10"] == pytest.approx(10 / 150)


def _scored(run: Path, name: str, examples: list[Example], scores: Callable[[str], float]) -> None:
    lines = [
        {**{f: getattr(e, f) for f in _FIELDS}, "scores": [scores(item) for item in e.candidates]}
        for e in examples
        if e.split == "test"
    ]
    write(run / f"scores-{name}.jsonl", lines)


def test_a_system_is_compared_with_itself_without_users(tmp_path: Path) -> None:
    run, examples = make_run(tmp_path, LEAK)
    _scored(run, "good-no-user", examples, lambda item: float(int(item[1:]) >= 100))
    result, metrics = evaluated(run)
    added = metrics["users_add"]
    assert {(e["system"], e["reference"]) for e in added} == {("good", "good-no-user")}
    (ndcg,) = [entry for entry in added if entry["metric"] == "ndcg@10"]
    own, alone = (metrics["systems"][name]["ndcg@10"]["value"] for name in ("good", "good-no-user"))
    assert ndcg["difference"] == pytest.approx(own - alone)
    assert ndcg["difference"] <= 0, "in this world the user adds nothing"
    assert "good-no-user" not in {e["system"] for e in metrics["comparisons"]}
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.strip()]
    assert rows.index("noise") < rows.index("good-no-user") < rows.index("no")
    assert "What seeing the user adds, in ndcg@10" in " ".join(result.stdout.split())
    page = (run / "report.html").read_text()
    assert "What seeing the user adds" in page


def test_scores_without_users_are_a_signal_of_the_audit(tmp_path: Path) -> None:
    run, examples = make_run(tmp_path, CLEAN)
    _scored(run, "good-no-user", examples, lambda item: float(int(item[1:]) % 7))
    _, metrics = evaluated(run)
    assert "language model (good-no-user)" in metrics["audit"]["signals"]


def test_saved_vectors_are_a_signal_of_the_audit(tmp_path: Path) -> None:
    run, examples = make_run(tmp_path, CLEAN)
    items = read_items(run / "items.jsonl")
    embedder = {"name": "by hand", "pooling": "mean"}
    keys = TextKeys(embedder)
    draws = np.random.default_rng(0)
    with VectorStore(run / "generations.sqlite") as store:
        texts = map(embedding_text, items.values())
        store.put({keys.key(text): draws.normal(size=8).astype(np.float32) for text in texts})
    _scored(run, "embedding", examples, lambda item: float(int(item[1:]) % 7))
    Provenance("score", {"embedder": embedder, "attributes": None}, []).write(
        run / "scores-embedding.jsonl"
    )
    _, metrics = evaluated(run)
    assert EMBEDDING in metrics["audit"]["signals"]
