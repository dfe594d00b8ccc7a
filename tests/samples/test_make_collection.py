"""The committed sample collection is what its generator writes, and what the docs say of it."""

from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from samples.make_collection import Draws, clock, write_collection
from trec_cli.core.jsonl import iter_sequences, read_items

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
FILES = ["shop/items.jsonl", "shop/sequences.jsonl", "news/news.tsv", "news/behaviors.tsv"]


def _rows(name: str) -> list[list[str]]:
    text = (SAMPLES / "news" / name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


def test_the_generator_writes_the_committed_bytes(tmp_path: Path) -> None:
    write_collection(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def test_the_collection_stays_small() -> None:
    assert sum((SAMPLES / name).stat().st_size for name in FILES) < 1_000_000


def test_titles_are_all_different_and_texts_hold_what_breaks_careless_readers() -> None:
    items = read_items(SAMPLES / "shop" / "items.jsonl")
    titles = {item.title for item in items.values()}
    everything = "".join(value for item in items.values() for value in item.attributes.values())
    assert len(items) == len(titles) == 300
    assert all(mark in everything for mark in ("\n", '"', "北", "ø", "&"))
    assert any(not item.attributes["brand"] for item in items.values())


def test_shop_users_take_nothing_twice_and_time_moves_on() -> None:
    known = read_items(SAMPLES / "shop" / "items.jsonl")
    sequences = [record for _, record in iter_sequences(SAMPLES / "shop" / "sequences.jsonl")]
    assert len(sequences) == 200
    for sequence in sequences:
        times = sequence.timestamps or []
        assert 8 <= len(sequence.items) <= 30
        assert len(set(sequence.items)) == len(sequence.items) == len(times)
        assert times == sorted(times)
        assert known.keys() >= set(sequence.items)


def test_news_has_the_columns_of_mind() -> None:
    assert {len(row) for row in _rows("news.tsv")} == {8}
    assert {len(row) for row in _rows("behaviors.tsv")} == {5}
    assert len({row[3] for row in _rows("news.tsv")}) == 300


def test_impressions_show_known_news_that_the_history_does_not_hold() -> None:
    known = {row[0] for row in _rows("news.tsv")}
    for _, _, time, history, shown in _rows("behaviors.tsv"):
        datetime.strptime(time, "%m/%d/%Y %I:%M:%S %p")
        past = history.split()
        labels = dict(entry.rsplit("-", 1) for entry in shown.split())
        assert Counter(labels.values())["1"] == 1
        assert known >= labels.keys() | set(past)
        assert not labels.keys() & set(past)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (1573463158, "11/11/2019 9:05:58 AM"),
        (1573430400, "11/11/2019 12:00:00 AM"),
        (1573473600, "11/11/2019 12:00:00 PM"),
        (1573516799, "11/11/2019 11:59:59 PM"),
    ],
)
def test_times_look_as_in_mind(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_picks_follow_their_weights() -> None:
    draws = Draws("test")
    picked = Counter(draws.pick("abc", [1.0, 0.0, 3.0]) for _ in range(4000))
    assert picked["b"] == 0
    assert picked["c"] / 4000 == pytest.approx(0.75, abs=0.03)
