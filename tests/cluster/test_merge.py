"""``--shard`` and ``trec merge``: the bytes of one run, or a clear message."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.commands.test_summarize import make_run as summary_run
from tests.conftest import ROOT
from tests.score.small_run import make_run
from trec_cli.commands.app import app
from trec_cli.core.lineage import check, follow
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.core.shards import BLOCK

TinyModel = Callable[..., Path]
USERS = 2 * BLOCK + 9
NAME = "scores-none-zeroshot.jsonl"


@pytest.fixture
def model(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"train": 3, "test": USERS}, candidates=3)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory, tiny_model: TinyModel) -> tuple[Path, Path]:
    """Give a run with both of two shards, and a copy: manifests name files by where they are."""
    folder = tmp_path_factory.mktemp("halves")
    run = make_run(folder / "run", {"train": 3, "test": USERS}, candidates=3)
    shards(run, tiny_model("llama"), 2)
    return run, copied(run, "copy")


@pytest.fixture
def sharded(halves: tuple[Path, Path]) -> Path:
    """Give the run with two finished shards, as if fresh."""
    run, copy = halves
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(copy, run)
    return run


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def command(run: Path, model: Path, *more: object) -> list[str]:
    given = ["score", run, "--mode", "none", "--zero-shot", "--model", model, "--recent", 2, *more]
    return list(map(str, given))


def score(run: Path, model: Path, *more: object) -> Result:
    result = trec(*command(run, model, *more))
    assert result.exit_code == 0, result.output
    return result


def shards(run: Path, model: Path, count: int, *more: object) -> None:
    for index in range(1, count + 1):
        score(run, model, "--shard", f"{index}/{count}", *more)


def copied(run: Path, name: str) -> Path:
    other = run.with_name(name)
    shutil.copytree(run, other, dirs_exist_ok=True)
    return other


def ids(path: Path) -> list[str]:
    return [json.loads(line)["example_id"] for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_merged_scores_have_the_bytes_of_one_run(run: Path, model: Path, count: int) -> None:
    alone = copied(run, "alone")
    score(alone, model)
    shards(run, model, count)
    assert not (run / NAME).exists()
    result = trec("merge", run, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["merged"] == [str(run / NAME)]
    assert (run / NAME).read_bytes() == (alone / NAME).read_bytes()
    assert "is merged already" in trec("merge", run).stderr


def test_likelihoods_of_texts_are_those_of_one_run_too(run: Path, model: Path) -> None:
    """Without a user, items are computed in blocks of all that is asked, not of a shard."""
    given = ("--ask", "text", "--name", "texts", "--limit", BLOCK + 2)
    score(run, model, *given, "--out", run / "alone.jsonl")
    shards(run, model, 2, *given)
    assert trec("merge", run).exit_code == 0
    assert (run / "scores-texts.jsonl").read_bytes() == (run / "alone.jsonl").read_bytes()


def test_a_run_in_one_piece_knows_the_merged_output(sharded: Path, model: Path) -> None:
    trec("merge", sharded)
    assert "finished already; nothing to do" in score(sharded, model).stderr
    manifest = read_manifest(sharded / NAME) or {}
    assert manifest["users"] == USERS
    assert manifest["shards"] == 2
    assert manifest["way"].startswith("shared prefix")
    assert "shard" not in manifest["settings"]
    check(sharded, follow(sharded))


def test_a_shard_has_whole_blocks_in_the_order_of_the_file(run: Path, model: Path) -> None:
    score(run, model, "--shard", "1/2")
    found = ids(run / f"{NAME}.shards" / "1-of-2.jsonl")
    assert found == [f"test-{n}" for n in [*range(BLOCK), *range(2 * BLOCK, USERS)]]


def test_a_limit_counts_before_users_are_dealt_out(run: Path, model: Path) -> None:
    shards(run, model, 2, "--limit", BLOCK + 1)
    trec("merge", run)
    assert ids(run / NAME) == [f"test-{n}" for n in range(BLOCK + 1)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_recommendations_are_merged_too(run: Path, model: Path, ending: str) -> None:
    alone, out = run / f"alone.{ending}", run / f"tonight.{ending}"
    score(run, model, "--top", 2, "--out", alone)
    shards(run, model, 2, "--top", 2, "--out", out)
    result = trec("merge", "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("mode", ["hier", "recurrent", "none"])
def test_merged_summaries_have_the_bytes_of_one_run(tmp_path: Path, model: Path, mode: str) -> None:
    run = summary_run(tmp_path / "run", users=BLOCK + 7, longest=8)
    alone = copied(run, "alone")
    sizes = ["--mode", mode, "--max-new-tokens", 8, "--device", "cpu", "--model", model]
    assert trec("summarize", alone, *sizes).exit_code == 0
    for index in (1, 2, 3):
        result = trec("summarize", run, *sizes, "--shard", f"{index}/3")
        assert result.exit_code == 0, result.output
        assert "trec merge --out" in result.stderr
    assert trec("merge", run).exit_code == 0
    name = f"summaries-{mode}.jsonl"
    assert (run / name).read_bytes() == (alone / name).read_bytes()
    assert (read_manifest(run / name) or {})["examples"] == BLOCK + 7
    assert "is there already" in trec("summarize", run, *sizes).stderr
    if mode != "none":  # the store of the run has every text now
        again = trec("summarize", run, *sizes, "--out", run / "again.jsonl", "--json")
        assert json.loads(again.stdout.splitlines()[-1])["calls"] == 0
        assert (run / "again.jsonl").read_bytes() == (alone / name).read_bytes()


def test_missing_and_unfinished_shards_are_told_apart(run: Path, model: Path) -> None:
    score(run, model, "--shard", "1/3")
    (run / f"{NAME}.shards" / ".2-of-3.jsonl.partial").write_bytes(b"")
    result = trec("merge", run)
    assert result.exit_code == 5
    assert "2 of 3 shards are not there yet (missing: 3/3; unfinished: 2/3)" in result.stderr
    assert "--shard 2/3" in result.stderr
    assert not (run / NAME).exists()


def test_a_shard_without_its_manifest_is_unfinished(sharded: Path) -> None:
    (sharded / f"{NAME}.shards" / "2-of-2.jsonl.manifest.json").unlink()
    result = trec("merge", sharded)
    assert (result.exit_code, "unfinished: 2/2" in result.stderr) == (5, True)


def test_a_shard_twice_is_refused(sharded: Path) -> None:
    folder = sharded / f"{NAME}.shards"
    for ending in ("", ".manifest.json"):
        shutil.copy(folder / f"1-of-2.jsonl{ending}", folder / f"2-of-2.jsonl{ending}")
    result = trec("merge", sharded)
    assert result.exit_code == 3
    assert "2-of-2.jsonl: is shard 1/2 by its manifest" in result.stderr


def test_shards_of_other_settings_are_refused_with_both_values(run: Path, model: Path) -> None:
    score(run, model, "--shard", "1/2")
    score(run, model, "--shard", "2/2", "--max-length", 900)
    result = trec("merge", run)
    assert result.exit_code == 3
    assert "--max-length 2048 in 1/2, 900 in 2/2" in result.stderr


def test_shards_of_other_inputs_are_refused(run: Path, model: Path) -> None:
    score(run, model, "--shard", "1/2")
    with (run / "items.jsonl").open("a") as stream:
        stream.write('{"item_id": "new", "title": "New"}\n')
    score(run, model, "--shard", "2/2")
    result = trec("merge", run)
    assert result.exit_code == 3
    assert "inputs: other content in 2/2 in items.jsonl" in result.stderr


def test_shards_of_two_divisions_are_refused(sharded: Path, model: Path) -> None:
    score(sharded, model, "--shard", "1/3")
    result = trec("merge", sharded)
    assert (result.exit_code, "holds shards of 2 and of 3" in result.stderr) == (3, True)


def drop(lines: list[bytes]) -> list[bytes]:
    return lines[:4] + lines[5:]


def double(lines: list[bytes]) -> list[bytes]:
    return lines[:5] + lines[4:]


def cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def add(lines: list[bytes]) -> list[bytes]:
    return [*lines, lines[0]]


def garble(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], b"{\n", *lines[3:]]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (drop, "line 5: has 'test-5' where example 'test-4' should be"),
        (double, "line 6: has 'test-4' where example 'test-5' should be"),
        (cut, f"ends before example 'test-{USERS - 1}'"),
        (add, "is of an example that this shard was not asked"),
        (garble, "line 3: is no record"),
    ],
)
def test_a_user_missing_or_double_is_found(
    sharded: Path, harm: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    path = sharded / f"{NAME}.shards" / "1-of-2.jsonl"
    path.write_bytes(b"".join(harm(path.read_bytes().splitlines(keepends=True))))
    assert "has changed since it was made" in trec("merge", sharded).stderr
    manifest = path.with_name(f"{path.name}.manifest.json")
    content = json.loads(manifest.read_bytes())
    content["sha256"] = file_hash(path)
    manifest.write_text(json.dumps(content))
    result = trec("merge", sharded)
    assert (result.exit_code, told in result.stderr) == (3, True), result.stderr
    assert not (sharded / NAME).exists()


def test_changed_examples_are_refused(sharded: Path) -> None:
    path = sharded / "examples.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    result = trec("merge", sharded)
    assert result.exit_code == 3
    assert "has changed since the shards were made of it" in result.stderr
    path.unlink()
    assert "bring it back" in trec("merge", sharded).stderr


def test_a_moved_run_is_merged(sharded: Path) -> None:
    moved = sharded.with_name("moved")
    sharded.rename(moved)
    assert trec("merge", moved).exit_code == 0
    assert len(ids(moved / NAME)) == USERS


def test_grown_inputs_keep_scores_and_end_as_one_run(sharded: Path, model: Path) -> None:
    trec("merge", sharded)
    lines = (sharded / "examples.jsonl").read_bytes().splitlines(keepends=True)
    new = lines[-1].replace(f"test-{USERS - 1}".encode(), b"test-new")
    (sharded / "examples.jsonl").write_bytes(b"".join([*lines[:5], new, *lines[5:]]))
    shards(sharded, model, 2)
    alone = sharded.with_name("alone")
    alone.mkdir()
    for name in ("items.jsonl", "examples.jsonl"):
        shutil.copy(sharded / name, alone / name)
    score(alone, model)
    assert trec("merge", sharded).exit_code == 0
    assert (sharded / NAME).read_bytes() == (alone / NAME).read_bytes()


def test_an_output_of_other_settings_is_not_replaced_unasked(run: Path, model: Path) -> None:
    score(run, model, "--max-length", 900)
    shards(run, model, 2)
    result = trec("merge", run)
    assert (result.exit_code, "other settings" in result.stderr) == (2, True)
    assert trec("merge", run, "--overwrite").exit_code == 0


def test_what_can_be_merged_is_and_the_rest_is_told(sharded: Path, model: Path) -> None:
    score(sharded, model, "--shard", "1/2", "--name", "other")
    result = trec("merge", sharded)
    assert result.exit_code == 5
    assert (sharded / NAME).exists()
    assert "scores-other.jsonl.shards: 1 of 2 shards are not there yet" in result.stderr


def test_dry_run_checks_and_writes_nothing(sharded: Path) -> None:
    result = trec("merge", sharded, "--dry-run")
    assert (result.exit_code, (sharded / NAME).exists()) == (0, False)
    assert "would merge 2 shards" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["merge"], 2, "give the RUN folder"),
        (["merge", "--out", "-"], 2, "has no shards"),
        (["merge", "RUN"], 3, "holds no shards to merge"),
        (["merge", "RUN/nowhere"], 3, "nowhere: no such folder (check the name)"),
        (["merge", "RUN/items.jsonl"], 3, "items.jsonl: is a file (give it as --out FILE)"),
        (["merge", "--out", "RUN/nothing.jsonl"], 3, "holds no shards"),
        (["score", "RUN", "--shard", "3/2"], 2, "the first is 1"),
        (["score", "RUN", "--shard", "1/2", "--examples", "-"], 2, "standard input"),
        (["score", "RUN", "--shard", "1/2", "--scorer", "bm25"], 2, "--shard is for --scorer llm"),
        (["summarize", "RUN", "--shard", "1/2", "--out", "-"], 2, "cannot write to stdout"),
        (
            ["summarize", "RUN", "--shard", "1/2", "--mode", "attention", "--query", "candidate"],
            2,
            "--query candidate",
        ),
    ],
)
def test_wrong_usage_is_one_message(
    run: Path, arguments: Sequence[str], code: int, told: str
) -> None:
    result = trec(*[word.replace("RUN", str(run)) for word in arguments])
    assert (result.exit_code, told in result.stderr) == (code, True), result.stderr


@pytest.mark.slow
def test_a_shard_killed_in_the_middle_goes_on(run: Path, model: Path) -> None:
    alone = copied(run, "alone")
    score(alone, model)
    arguments = command(run, model, "--shard", "1/2")
    process = subprocess.Popen([sys.executable, "-m", "trec_cli", *arguments], cwd=ROOT)
    journal = run / f"{NAME}.shards" / ".1-of-2.jsonl.partial"
    while process.poll() is None and _lines(journal) < 5:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shards(run, model, 2)
    assert trec("merge", run).exit_code == 0
    assert (run / NAME).read_bytes() == (alone / NAME).read_bytes()


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
