"""Damaged files of every format: a clear error or a sensible result, never a traceback."""

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from tests.prepare.sources import test_amazon_m2 as amazon_m2
from tests.prepare.sources import test_amazon_reviews as amazon_reviews
from tests.prepare.sources import test_clicks as clicks
from tests.prepare.sources import test_mind as mind
from tests.prepare.sources import test_plain as plain
from trec_cli.core.errors import TrecError
from trec_cli.core.jsonl import encode
from trec_cli.core.progress import Silent
from trec_cli.prepare.archive import Source
from trec_cli.prepare.collection import ReadOptions
from trec_cli.prepare.detect import detect

PIECES = [
    *(b'"', b"'", b",", b"\t", b"\n", b"\r", b"\0", b"\xff", b"::", b"{", b"}", b";", b"|"),
    *(b"null", b"NaN", b"1e999", b"-1", b"9" * 30, b"None", b"true", b"1_0", b"2/30/23"),
    *(b"\xef\xbb\xbf", b"\\ud800", b"['\\ud800']", b"[" * 3000, b'{"a":' * 1500, b"\xe2\x80\xa8"),
    *(b"0001-01-01", "٣".encode()),
]


def mind_files(folder: Path) -> None:
    mind.write(folder)


def m2_files(folder: Path) -> None:
    amazon_m2.write(folder, [["['B1' 'B2']", "B3", "UK"], ["['B1']", "B2", "UK"]])


def review_files(folder: Path) -> None:
    amazon_reviews.write(folder, [amazon_reviews.review("u", item, 1) for item in "AB"])


def plain_files(folder: Path) -> None:
    sequence = {"user_id": "u", "items": ["a", "b"], "timestamps": [1, 2]}
    plain.write(folder, [{**sequence, "random_candidates": ["b"]}])


LAYOUTS = [mind_files, m2_files, review_files, plain_files, *clicks.LAYOUTS]


def damage(content: bytes, rng: random.Random) -> bytes:
    """Insert, replace, cut out or double a piece, up to three times."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.choice([0, 1, 8, 40]))
        new = rng.choice([b"", content[start:end] * 2, rng.choice(PIECES)])
        content = content[:start] + new + content[end:]
    return content


def read_everything(folder: Path) -> None:
    with Source(folder) as source:
        found = detect(source)
        options = ReadOptions(found.format.defaults.attributes)
        collection = found.format.read(source, found.files, options, Silent())
        for question in collection.questions:
            assert question.user_id
            assert all([*question.history, *question.positives])
            times = [*(question.times or []), question.timestamp or 0]
            assert times == sorted(times) or question.timestamp is None
            msgspec.json.encode((question.history, question.times, question.ratings))
        for item in collection.catalogue.fetch(sorted(collection.catalogue.ids)):
            assert item.text()
            encode(item)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_file_never_gives_a_traceback(
    tmp_path: Path, layout: Callable[[Path], None]
) -> None:
    rng = random.Random(layout.__name__)
    whole = tmp_path / "whole"
    whole.mkdir()
    layout(whole)
    names = sorted(path.name for path in whole.iterdir())
    for _ in range(25):
        folder = shutil.copytree(whole, tmp_path / "damaged")
        file = folder / rng.choice(names)
        file.write_bytes(damage(file.read_bytes(), rng))
        with suppress(TrecError):
            read_everything(folder)
        shutil.rmtree(folder)
