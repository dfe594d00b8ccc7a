"""``trec score --top N``: recommendations instead of scores."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from tests.score.small_run import make_run
from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.jsonl import encode_all, read_examples
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Give a run with four questions of split predict beside the usual splits."""
    run = make_run(tmp_path / "run")
    examples = read_examples(run / "examples.jsonl")
    asked = [
        Example(
            example_id=f"predict-{number}",
            user_id=f"user-{number}",
            split="predict",
            history=example.history,
            candidates=example.candidates,
            positives=[],
        )
        for number, example in enumerate(examples[-4:])
    ]
    write_lines(run / "examples.jsonl", encode_all([*examples, *asked]))
    return run


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def lists(path: Path) -> list[tuple[str, list[tuple[str, int, float]]]]:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [
        (line["user_id"], [(i["item_id"], i["rank"], i["score"]) for i in line["items"]])
        for line in lines
    ]


def test_questions_about_tomorrow_are_scored_and_have_no_answer(run: Path) -> None:
    assert trec(run, "--scorer", "random", "--split", "predict").exit_code == 0
    records = scores_in(run / "scores-random-predict.jsonl")
    assert [record.positives for record in records] == [[]] * 4
    assert [record.split for record in records] == ["predict"] * 4


def test_the_best_items_of_every_user_are_written(run: Path) -> None:
    words = [run, "--scorer", "random", "--split", "predict"]
    assert trec(*words).exit_code == 0
    result = trec(*words, "--top", 3)
    assert result.exit_code == 0, result.output
    assert "trec eval" not in result.stderr
    for record, (user, items) in zip(
        scores_in(run / "scores-random-predict.jsonl"),
        lists(run / "recommendations-random.jsonl"),
        strict=True,
    ):
        best = sorted(zip(record.scores, record.candidates, strict=True), reverse=True)[:3]
        assert user == record.user_id
        assert items == [(item, rank, score) for rank, (score, item) in enumerate(best, 1)]


def test_the_ending_of_the_file_chooses_the_format(run: Path, tmp_path: Path) -> None:
    words = [run, "--scorer", "bm25", "--split", "predict", "--top", 2]
    for name in ("r.jsonl", "r.csv", "r.parquet"):
        assert trec(*words, "--out", tmp_path / name).exit_code == 0
        manifest = read_manifest(tmp_path / name)
        assert manifest is not None
        assert manifest["sha256"] == file_hash(tmp_path / name)
        assert manifest["settings"]["count"] == 2
    rows = [(u, i, r, s) for u, items in lists(tmp_path / "r.jsonl") for i, r, s in items]
    assert len(rows) == 8
    assert pl.read_parquet(tmp_path / "r.parquet").rows() == rows
    with (tmp_path / "r.csv").open(newline="") as stream:
        read = [(r["user_id"], r["item_id"], int(r["rank"]), float(r["score"]))
                for r in csv.DictReader(stream)]  # fmt: skip
    assert read == rows


def test_the_same_command_does_nothing_and_another_length_is_another_setting(run: Path) -> None:
    words = [run, "--scorer", "random", "--split", "predict", "--top"]
    assert trec(*words, 2).exit_code == 0
    assert "nothing to do" in trec(*words, 2).stderr
    refused = trec(*words, 3)
    assert refused.exit_code == 2
    assert "--top 2 before, 3 now" in refused.stderr
    assert trec(*words, 3, "--overwrite").exit_code == 0


def test_other_splits_stand_in_the_name(run: Path) -> None:
    assert trec(run, "--scorer", "random", "--top", 1).exit_code == 0
    assert (run / "recommendations-random-test.jsonl").exists()
    assert trec(run, "--scorer", "random", "--top", 1, "--name", "mine").exit_code == 0
    assert (run / "recommendations-mine.jsonl").exists()


def test_lists_go_to_stdout_as_jsonl(run: Path) -> None:
    result = trec(run, "--scorer", "random", "--split", "predict", "--top", 1, "--out", "-")
    assert result.exit_code == 0
    assert [json.loads(line)["user_id"] for line in result.stdout.splitlines()] == [
        f"user-{number}" for number in range(4)
    ]


def test_another_ending_is_refused_before_anything_is_read(run: Path, tmp_path: Path) -> None:
    (run / "items.jsonl").write_text("broken")
    result = trec(run, "--scorer", "random", "--top", 1, "--out", tmp_path / "r.xlsx")
    assert result.exit_code == 2
    assert ".jsonl, .csv, .parquet" in result.stderr
    assert trec(run, "--scorer", "random", "--top", 0).exit_code == 2


def test_the_language_model_recommends_too(run: Path, tiny_model: Callable[..., Path]) -> None:
    words = [run, "--mode", "none", "--zero-shot", "--model", tiny_model("llama")]
    result = trec(*words, "--split", "predict", "--top", 2)
    assert result.exit_code == 0, result.output
    made = lists(run / "recommendations-none-zeroshot.jsonl")
    assert [len(items) for _, items in made] == [2] * 4


def test_candidates_that_nothing_is_known_of_stand_in_no_order_of_ids(run: Path) -> None:
    ids = [f"i{number}" for number in range(24)]
    asked = [
        Example(
            example_id=f"u{n}",
            user_id=f"u{n}",
            split="predict",
            history=[],
            candidates=ids,
            positives=[],
        )
        for n in range(40)
    ]
    write_lines(run / "examples.jsonl", encode_all(asked))
    assert trec(run, "--scorer", "bm25", "--split", "predict", "--top", 1).exit_code == 0
    firsts = [items[0][0] for _, items in lists(run / "recommendations-bm25.jsonl")]
    assert len(set(firsts)) > 12
    assert trec(
        run, "--scorer", "bm25", "--split", "predict", "--top", 1, "--seed", 1, "--name", "other"
    ).exit_code == 0  # fmt: skip
    others = [items[0][0] for _, items in lists(run / "recommendations-other.jsonl")]
    assert others != firsts
