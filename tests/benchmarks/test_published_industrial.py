"""The published protocol: nothing is learnt that the published systems could not know."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.published_industrial import (
    Bench,
    Collection,
    Question,
    _examples,
    _metrics,
    _rank,
    make_catalogue,
    measure,
    read_protocol,
    rehearsal,
    table,
)
from trec_cli.core.records import Item
from trec_cli.signals.histories import Events
from trec_cli.signals.shelf import Shelf


def _write(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _asked(user: str, history: str, target: str) -> dict[str, object]:
    return {"user_id": user, "history": list(history), "target": target}


@pytest.fixture
def protocol(tmp_path: Path) -> Collection:
    items: list[dict[str, object]] = [{"item_id": i, "title": f"thing {i}"} for i in "abcdef"]
    _write(tmp_path / "industrial" / "items.jsonl", *items)
    folder = tmp_path / "industrial_published"
    _write(folder / "valid.jsonl", _asked("u", "abc", "d"), _asked("u", "ab", "c"))
    _write(folder / "test.jsonl", _asked("u", "abcd", "e"))
    return read_protocol(tmp_path)


def test_signals_learn_from_the_earliest_history_and_from_no_answer(protocol: Collection) -> None:
    (known,) = protocol.train
    assert (known.history, known.positives) == (["a"], ["b"])
    rows = {item: row for row, item in enumerate("abcdef")}
    assert Events.of(protocol.train, rows).sequences.items.tolist() == [0, 1]
    assert [e.timestamp for e in protocol.valid] == [0, 1]
    assert [e.timestamp for e in protocol.test] == [2]


def test_a_rehearsal_asks_no_test_question(protocol: Collection) -> None:
    found = rehearsal(protocol)
    assert (found.train, found.valid) == (protocol.train, protocol.valid[:1])
    assert [e.positives for e in found.test] == [["c"]]
    assert {e.split for e in found.test} == {"test"}


def test_metrics_rank_the_whole_catalogue_with_ties_at_their_expected_value() -> None:
    scores = np.array([[3, 2, 1, 0], [1, 1, 1, 1]], np.float32)
    metrics = _metrics(_rank(scores, np.array([1, 0])))
    assert metrics["hr@3"].tolist() == [1, 0.75]
    assert metrics["ndcg@3"].tolist() == pytest.approx(
        [1 / np.log2(3), (1 + 1 / np.log2(3) + 0.5) / 4]
    )


def test_every_system_is_measured_and_says_what_it_learnt_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("trec_cli.signals.renewal.LEAST_ASKED", 5)
    monkeypatch.setattr("benchmarks.published_industrial.MODELS", (0, 1))
    letters = "abcdefgh"
    items = {i: Item(i, {"title": f"thing {i}"}) for i in letters}
    questions = [Question(f"u{n}", [letters[n % 7]], letters[n % 7 + 1]) for n in range(30)]
    made = [
        _examples(questions, "train"),
        _examples(questions, "valid", start=0),
        _examples(questions, "test", start=30),
    ]
    catalogue = make_catalogue(items, None, Path())
    bench = Bench(Collection(items, *made), catalogue, Shelf(tmp_path / "learnt"))
    *_, measured = measure(bench)
    *_, again = measure(Bench(bench.protocol, catalogue, Shelf(tmp_path / "learnt")))
    assert again == measured, "a stopped run continues with what it had"
    systems = measured["systems"]
    blend = systems["blend"]
    assert blend["ndcg@10"] > systems["popularity"]["ndcg@10"]
    assert blend["ndcg@10_low"] < blend["ndcg@10"] < blend["ndcg@10_high"] or blend["ndcg@10"] == 1
    assert "earliest history" in blend["learnt_from"]
    assert "answers of valid.jsonl" in systems["blend + sequence model, renewed"]["learnt_from"]
    assert "recent" not in systems
    assert "recent, renewed" in systems
    assert systems["retrieval of 200"]["hr@200"] == 1
    assert set(measured["differences"]) == {
        "blend + sequence model - blend",
        "blend + sequence model, renewed - blend, renewed",
        "blend, renewed - blend",
    }
    lines = list(table(systems))
    assert any(line.startswith("MiniOneRec") and "published" in line for line in lines)
