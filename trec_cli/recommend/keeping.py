"""What of last night's lists is still right, and what is not and why.

A list is kept where the user's history is the same, and so are the items and the weights of
the blend; were it kept where these are new, lists of one file would not be comparable, and no
new item could reach a user who stays away.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from trec_cli.core.errors import UsersGone
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.core.outputs import Settings
from trec_cli.core.records import Example
from trec_cli.recommend.options import RecommendOptions
from trec_cli.recommend.records import UserList, question_hash
from trec_cli.score.recommendations import has_reasons

GROWN, NEW, LACKING = "the history has changed", "the user is new", "an item is excluded or gone"
NEW_ITEMS, NEW_WEIGHTS = "the items have changed", "the weights were fitted again"
"""Why lists are made again: of one user, of all."""
LISTS = "lists"
"""In the manifest of a table: the hash of the lists beside it."""


class _Item(msgspec.Struct):
    item_id: str


class _User(msgspec.Struct):
    """Whose a list or question is."""

    user_id: str


class _Line(msgspec.Struct):
    """What is looked at of a list."""

    user_id: str
    items: list[_Item]
    question: str = ""


_decode = msgspec.json.Decoder(_Line).decode
_decode_user = msgspec.json.Decoder(_User).decode
_ABSENT, _LACKING = -1, -2
"""In place of where a list begins."""


@dataclass
class KeptLists:
    """Lists of an earlier output that are still right.

    Attributes:
        top: items that a list should have.
        remade: why others are not, by the number of users.
        items: how often each item stands in what is kept.
        short: kept lists with fewer items than that.
    """

    top: int
    remade: "Counter[str]" = field(default_factory=Counter)
    items: "Counter[str]" = field(default_factory=Counter)
    short: int = 0
    _stream: BinaryIO | None = None
    _starts: "array[int]" = field(default_factory=lambda: array("q"))

    def __contains__(self, n: int) -> bool:
        """Check whether the list of question ``n`` is kept."""
        return bool(self._starts) and self._starts[n] >= 0

    def line(self, n: int) -> bytes:
        """Return the kept line of question ``n``, as it was written."""
        assert self._stream is not None
        if self._stream.tell() != self._starts[n]:  # going anywhere empties the buffer
            self._stream.seek(self._starts[n])
        return self._stream.readline()

    def read(
        self, stream: BinaryIO, asked: Sequence[Example], items: Set[str], excluded: Set[str]
    ) -> None:
        """Find what is still right: the question is asked again, and every item may be had."""
        wanted = {question_hash(example): n for n, example in enumerate(asked)}
        others: set[str] = set()
        self._stream, self._starts = stream, array("q", [_ABSENT]) * len(asked)
        start = 0
        for raw in stream:
            line = _decode(raw)
            n = wanted.get(line.question) if line.question else None
            listed = [item.item_id for item in line.items]
            if n is None:
                others.add(line.user_id)
            elif items >= set(listed) and excluded.isdisjoint(listed):
                self._starts[n] = start
                self.items.update(listed)
                self.short += len(listed) < self.top
            else:
                self._starts[n] = _LACKING
            start += len(raw)
        for example, found in zip(asked, self._starts, strict=True):
            if found == _ABSENT:
                self.remade[GROWN if example.user_id in others else NEW] += 1
            elif found == _LACKING:
                self.remade[LACKING] += 1

    def forget(self, why: str) -> None:
        """Keep nothing, since something else is new; an empty reason keeps what there is."""
        if why and self._starts:
            self.remade = Counter({why: len(self._starts)})
            self.items, self.short, self._starts = Counter(), 0, array("q")


def lists_file(out: Path) -> Path:
    """Name the file with the lists of an output, and what was asked for each.

    A table has no place for the question, so the lists stand beside it.
    """
    return out if has_reasons(out) else out.with_name(f".{out.name}.lists")


def known_lists(out: Path) -> Path | None:
    """Name the lists of an earlier output; None where they are not those that it was made of."""
    beside = lists_file(out)
    if beside == out:
        return out
    known = (read_manifest(out) or {}).get(LISTS)
    return beside if beside.is_file() and file_hash(beside) == known else None


def check_users(out: Path, users: Set[str]) -> Set[str]:
    """Return the users of an earlier output who are gone, as from a log of the last months.

    Who is in ``users`` and not asked for this time, by ``--limit`` or since the split is cut
    elsewhere, loses a list by choice.

    Raises:
        UsersGone: most of them are, so the output is that of other data.
    """
    earlier = _users_of(out)
    gone = earlier - users
    if 2 * len(gone) > len(earlier):
        raise UsersGone(out, gone, len(earlier))
    return gone


def _users_of(out: Path) -> set[str]:
    """Return the users of lists, questions, or a table whose lists are not beside it any more."""
    lines = known_lists(out)
    if lines is not None:
        with lines.open("rb") as stream:
            return {_decode_user(line).user_id for line in stream}
    import polars as pl

    read = pl.scan_csv(out, infer_schema=False) if out.suffix == ".csv" else pl.scan_parquet(out)
    return set(read.select(pl.col("user_id").unique()).collect()["user_id"].to_list())


@contextmanager
def opened(
    out: Path | None, asked: Sequence[Example], items: Set[str], excluded: Set[str], top: int
) -> Iterator[KeptLists]:
    """Open the lists of an earlier output, where there are any."""
    kept = KeptLists(top)
    if out is None:
        yield kept
        return
    with out.open("rb") as stream:
        kept.read(stream, asked, items, excluded)
        yield kept


def what_is_new(out: Path, before: Settings, now: Settings, options: RecommendOptions) -> str:
    """Return what beside histories is new since an output was made, or nothing.

    Args:
        out: the output.
        before, now: settings of both runs; the first of their inputs is the file of items.
        options: tell where the weights of the blend are.
    """
    if before.get("inputs", [])[:1] != now.get("inputs", [])[:1]:
        return NEW_ITEMS
    known = (read_manifest(out) or {}).get("weights")
    return NEW_WEIGHTS if known is not None and known != weights_hash(options) else ""


def weights_hash(options: RecommendOptions) -> str | None:
    """Hash the weights of the blend, for the manifest; None where there are none."""
    path = options.weights_file
    return file_hash(path) if path is not None and path.exists() else None


def whole_list(line: bytes) -> UserList:
    """Decode a kept line."""
    return msgspec.json.decode(line, type=UserList)
