"""``trec score --scorer embedding``: the nearest history item, ties, the store."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from tests.score.small_run import make_run
from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples
from trec_cli.core.manifest import read_manifest
from trec_cli.core.records import Reason
from trec_cli.models.vectors import ItemVectors
from trec_cli.score.embedding import GRID, nearest, nearest_item

VECTORS = ItemVectors(
    {"east": 0, "north": 1, "between": 2, "empty": 3},
    np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32),
)


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments), "--device", "cpu"])


def named_by(run: Path, *splits: str) -> set[str]:
    examples = [e for e in read_examples(run / "examples.jsonl") if e.split in splits]
    return {item for e in examples for item in (*e.history, *e.candidates)}


def test_a_candidate_is_as_good_as_the_history_item_nearest_to_it() -> None:
    scores = nearest(VECTORS, ["east", "north"], ["between", "east", "empty"])
    assert scores == [0.8, 1.0, 0.0]


def test_the_nearest_items_are_averaged_as_far_as_there_are_any() -> None:
    history = ["east", "north", "empty"]
    cosines = {1: 0.8, 3: (0.8 + 0.6) / 3, 5: (0.8 + 0.6) / 3, "all": (0.8 + 0.6) / 3}
    for settings in GRID:
        count = settings["nearest"]
        assert nearest(VECTORS, history, ["between"], count) == [round(cosines[count], 6)]
    assert nearest(VECTORS, history, ["between"], 2) == [0.7]


def test_the_reason_is_the_nearest_history_item_and_the_newest_of_equals() -> None:
    rows = {"a": 0, "b": 1, "a again": 2, "c": 3}
    vectors = ItemVectors(rows, np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], np.float32))
    assert nearest_item(vectors, ["a", "b"], "c") == Reason(signal="nearest_text", history_item="b")
    found = nearest_item(vectors, ["a", "b", "a again"], "a")
    assert found is not None
    assert found.history_item == "a again"
    assert nearest_item(vectors, ["a"], "b") is None  # nothing of it is near
    assert nearest_item(vectors, [], "b") is None


def test_without_history_all_candidates_tie() -> None:
    for settings in GRID:
        assert nearest(VECTORS, [], ["east", "north"], settings["nearest"]) == [0.0, 0.0]


@given(st.integers(0, 1000), st.integers(2, 40))
def test_equal_texts_tie_to_the_last_bit_wherever_they_stand(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, 384)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix[-1] = matrix[0]
    vectors = ItemVectors({f"i{n}": n for n in range(count)}, matrix)
    scores = nearest(vectors, ["i1"], list(vectors.rows))
    assert scores[0] == scores[-1]


def test_every_candidate_gets_a_score_and_nothing_is_embedded_twice(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    run = make_run(tmp_path / "run")
    words = [run, "--scorer", "embedding", "--embedder", tiny_embedder, "--json"]
    first = trec(*words)
    assert first.exit_code == 0, first.output
    fields = json.loads(first.stdout.splitlines()[-1])
    tested = [e for e in read_examples(run / "examples.jsonl") if e.split == "test"]
    named = named_by(run, "valid", "test")
    assert (fields["texts_embedded"], fields["vectors_found"]) == (len(named), 0)
    records = scores_in(run / "scores-embedding.jsonl")
    assert [r.candidates for r in records] == [e.candidates for e in tested]
    assert all(-1 <= score <= 1 for r in records for score in r.scores)
    assert records[0].scores == [0.0] * 5  # no history

    before = (run / "scores-embedding.jsonl").read_bytes()
    again = json.loads(trec(*words, "--overwrite").stdout.splitlines()[-1])
    assert (again["texts_embedded"], again["vectors_found"]) == (0, len(named))
    assert (run / "scores-embedding.jsonl").read_bytes() == before
    assert "nothing to do" in trec(*words).stderr


def test_it_is_tuned_on_valid_and_otherwise_takes_the_nearest_item(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    run = make_run(tmp_path / "run", {"train": 1, "valid": 5, "test": 6})
    words = [run, "--scorer", "embedding", "--embedder", tiny_embedder, "--json"]
    tuned = trec(*words)
    fields = json.loads(tuned.stdout.splitlines()[-1])
    assert [trial["settings"] for trial in fields["trials"]] == GRID
    best = max(fields["trials"], key=lambda trial: float(trial["valid_mrr"]))
    assert fields["chosen"] == best["settings"]
    assert fields["valid_examples"] == 5
    assert "embedding: best on 5 examples of valid with nearest" in tuned.stderr
    assert trec(*words, "--no-tune").exit_code == 2

    plain = trec(*words, "--no-tune", "--name", "plain", "--store", tmp_path / "store.sqlite")
    fields = json.loads(plain.stdout.splitlines()[-1])
    assert fields["texts_embedded"] == len(named_by(run, "test"))
    assert fields["chosen"] == {"nearest": 1}
    assert fields["trials"] == []


def test_the_language_model_can_embed_and_attributes_can_be_chosen(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    run = make_run(tmp_path / "run")
    words = [run, "--scorer", "embedding", "--embedder", "llm", "--model", tiny_model()]
    assert trec(*words).exit_code == 0
    assert trec(*words, "--attributes", "kind", "--name", "kind").exit_code == 0
    kinds = [record.scores for record in scores_in(run / "scores-kind.jsonl")]
    assert {len(set(scores)) for scores in kinds[1:]} <= {1, 2}
    manifest = read_manifest(run / "scores-embedding.jsonl")
    assert manifest is not None
    assert manifest["settings"]["embedder"]["layer"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--scorer", "embedding", "--embedder", "models/none-such"], 4, "make embedder"),
        (["--scorer", "embedding", "--recent", "2"], 2, "--recent is for --scorer llm"),
        (["--scorer", "bm25", "--embedder", "x"], 2, "--embedder is for --scorer embedding"),
        (["--scorer", "nothing"], 2, "llm, embedding, popularity"),
        (["--scorer", "embedding", "--attributes", "colour"], 2, "no item has colour"),
    ],
)
def test_a_wrong_wish_is_a_clear_error(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    run = make_run(tmp_path / "run")
    result = trec(run, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr.replace("\n", " ")


def test_a_dry_run_writes_nothing(tmp_path: Path, tiny_embedder: Path) -> None:
    run = make_run(tmp_path / "run")
    before = sorted(run.iterdir())
    words = [run, "--scorer", "embedding", "--embedder", tiny_embedder, "--dry-run"]
    assert trec(*words).exit_code == 0
    assert sorted(run.iterdir()) == before
