"""The engine on disk gives the bytes of the engine in memory."""

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.prepare.helpers import question
from trec_cli import api
from trec_cli.core.errors import InputError, PartialError
from trec_cli.prepare.collection import Question, ReadOptions
from trec_cli.prepare.settings import Choices, PrepareOptions
from trec_cli.prepare.space import Engine, Space, Tape

SAMPLES = Path("samples")


def made(source: Path, out: Path, engine: Engine, **options: Any) -> Mapping[str, Any]:
    """Prepare a source, and return both files and what the manifest counts."""
    api.prepare(PrepareOptions(source=source, out=out, engine=engine, **options))
    manifest = json.loads((out / "examples.jsonl.manifest.json").read_text("utf-8"))
    files = {name: (out / name).read_bytes() for name in ("examples.jsonl", "items.jsonl")}
    return {**files, "counts": manifest["counts"], "settings": manifest["settings"]}


def same(source: Path, tmp_path: Path, **options: Any) -> Mapping[str, Any]:
    """Prepare with both engines, and compare everything."""
    memory = made(source, tmp_path / "memory", "memory", **options)
    disk = made(source, tmp_path / "disk", "disk", **options)
    assert disk == memory
    return disk


CHOICES: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "time": {"split": "time"},
    "all targets": {"split": "time", "targets": "all", "negatives": "popularity"},
    "a window": {"split": "time", "window": "1/2"},
    "leave last out": {"split": "leave-last-out", "targets": "all", "predict": True},
    "core": {"k_core": 2, "repeats": "drop", "unknown": "keep"},
    "few users": {"max_users": 7, "predict": True, "population": "catalogue"},
    "a period": {"since": "2020-01-01", "min_rating": 3.0},
}


def write_reviews(folder: Path, edition: int) -> Path:
    """Write a small file of reviews with repeats, ties and metadata that stands twice."""
    draw = random.Random(edition)
    folder.mkdir()
    reviews, meta = [], []
    for _ in range(400):
        user, item = f"Ü{draw.randrange(60)}", f"B{draw.randrange(40)}"
        day, stars = 1_580_000_000 + 86_400 * draw.randrange(30), draw.randrange(1, 6)
        if edition == 2023:
            reviews.append(
                {"user_id": user, "parent_asin": item, "timestamp": day * 1000, "rating": stars}
            )
        else:
            row = {"reviewerID": user, "asin": item, "unixReviewTime": day}
            reviews.append({**row, "overall": float(stars)} if draw.random() < 0.9 else row)
    reviews += reviews[:20]
    key = "parent_asin" if edition == 2023 else "asin"
    for number in [*range(38), *range(10)]:
        title = f"Thing {number} – 漢字 {draw.randrange(2)}" if number % 9 else " "
        meta.append({key: f"B{number}", "title": title, "price": 7.5, "description": ["a", "b"]})
    for name, rows in (("Toys.jsonl", reviews), ("meta_Toys.jsonl", meta)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8")
    return folder


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("edition", [2018, 2023])
def test_reviews_come_out_the_same(edition: int, choice: str, tmp_path: Path) -> None:
    source = write_reviews(tmp_path / "source", edition)
    same(source, tmp_path, choices=Choices(**CHOICES[choice]))


@pytest.mark.parametrize(
    ("choices", "read"),
    [
        ({}, {}),
        ({"predict": True}, {"target": "impression"}),
        ({"split": "time", "predict": True}, {"target": "impression", "per_impression": True}),
        ({"negatives": "uniform", "population": "shown"}, {"target": "impression"}),
    ],
)
def test_news_come_out_the_same(
    choices: Mapping[str, Any], read: Mapping[str, Any], tmp_path: Path
) -> None:
    same(SAMPLES / "news", tmp_path, choices=Choices(**choices), read=ReadOptions(**read))


def test_a_shop_and_sizes_in_numbers_come_out_the_same(tmp_path: Path) -> None:
    sizes = {"train_users": "20", "valid_users": "4", "test_users": "6"}
    same(SAMPLES / "shop", tmp_path, **sizes, choices=Choices(split="time"))
    shutil.rmtree(tmp_path / "disk")
    shutil.rmtree(tmp_path / "memory")
    same(SAMPLES / "shop", tmp_path, **sizes)


def write_log(folder: Path, moment: str) -> Path:
    """Write a log with a column of texts, and times as ``moment`` has them."""
    draw = random.Random(5)
    folder.mkdir()
    rows = [
        f"u{draw.randrange(30)},i{draw.randrange(20)},{moment.format(1 + draw.randrange(28))},"
        f"Title {draw.randrange(3)}"
        for _ in range(300)
    ]
    text = "\n".join(["user_id,item_id,time,title", *rows]) + "\n"
    (folder / "clicks.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("moment", ["2020-02-{:02}", "{:02}.02.2020", "15800{:02}000"])
def test_a_log_with_texts_inside_comes_out_the_same(moment: str, tmp_path: Path) -> None:
    same(write_log(tmp_path / "source", moment), tmp_path, choices=Choices(split="time"))


def test_ratings_without_header_are_told_apart_on_disk_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    draw = random.Random(6)
    rows = [f"A{draw.randrange(20)},B{draw.randrange(9)},4.0,15{n:08}" for n in range(120)]
    (source / "Toys.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    meta = [json.dumps({"asin": f"B{n}", "title": f"Thing {n}"}) for n in range(9)]
    (source / "meta_Toys.json").write_text("\n".join(meta) + "\n", encoding="utf-8")
    same(source, tmp_path)


def test_a_finished_folder_is_finished_for_the_other_engine(tmp_path: Path) -> None:
    made(SAMPLES / "shop", tmp_path, "memory")
    before = (tmp_path / "examples.jsonl").stat()
    made(SAMPLES / "shop", tmp_path, "disk")
    assert (tmp_path / "examples.jsonl").stat().st_ino == before.st_ino


def test_a_broken_line_is_named_the_same(tmp_path: Path) -> None:
    source = write_reviews(tmp_path / "source", 2023)
    with (source / "Toys.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"user_id": "u"\n')
    said = []
    for engine in ("memory", "disk"):
        with pytest.raises(InputError) as caught:
            made(source, tmp_path / engine, engine)
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return Space(lambda: tmp_path)


def test_a_shelf_on_disk_sorts_by_key_and_keeps_the_order_of_equals(space: Space) -> None:
    shelf, list_ = space.sorted(), Space().sorted()
    for number in range(25_000):
        key = (2**64 - 1 - number % 7, "é" if number % 3 else "e", number % 2 == 0, number % 5)
        one = question(f"u{number}", ["a", "b"], timestamp=number)
        shelf.add(key, one)
        list_.add(key, one)
    assert len(shelf) == 25_000
    assert list(shelf) == list(list_)
    assert list(shelf) == list(list_)


def test_a_question_is_read_back_as_it_was(space: Space) -> None:
    whole = Question("u", ["a"], ["b"], 3, [1.5], [None, 2.0], ["c"], "-x", "test", "dev", "f", 9)
    (back,) = space.keep([whole])
    assert back == whole
    assert type(back.timestamp) is int  # so that it is written without .0


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(PartialError, match="No space left on device"):
        Tape(Path("/dev/full"), bytes, bytes, [b"x" * 100] * 100_000)
