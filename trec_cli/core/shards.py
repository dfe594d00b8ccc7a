"""A part of the examples, for arrays of jobs: which it has, and where its output lies.

Examples are dealt out by their place: :data:`BLOCK` after :data:`BLOCK`, to one shard after
the other.  So every shard has its share of a file that is sorted, a block stays the same
whatever the number of shards, and what is planned block by block (the rows of ``trec score``)
is planned as in a run without shards.  The output of ``FILE`` are the files
``FILE.shards/1-of-8.jsonl`` and so on, each with its manifest; :mod:`trec_cli.cluster.merge`
puts them together.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from trec_cli.core.errors import UsageError
from trec_cli.core.options import Option
from trec_cli.core.shelves import Chosen

BLOCK = 32
"""Examples that stay together: enough to fill rows, few enough to spread evenly."""
SUFFIX = ".shards"
_NAME = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
Record = TypeVar("Record")

ShardName = Annotated[
    str | None,
    Option(
        "Only part I of N, counted from 1, into OUT.shards/; trec merge puts them together.",
        panel="Output and behaviour",
        metavar="I/N",
    ),
]


@dataclass(frozen=True, order=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``2/8``.

        Raises:
            UsageError: it is no such thing.
        """
        found = _NAME.fullmatch(text)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.index <= shard.count:
            raise UsageError(f"--shard {text}: shards are named 1/8 to 8/8, the first is 1")
        return shard

    def __str__(self) -> str:
        """Write ``2/8``, as ``--shard`` takes it."""
        return f"{self.index}/{self.count}"

    def out(self, path: Path) -> Path:
        """Name the file of this shard of an output.

        Raises:
            UsageError: the output is a stream.
        """
        if str(path) == "-":
            raise UsageError("--shard cannot write to stdout; name a file with --out")
        return path.with_name(path.name + SUFFIX) / f"{self.index}-of-{self.count}.jsonl"

    def take(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records of this shard, in their order, as a view."""
        return Chosen(records, self.places(len(records)))

    def places(self, total: int) -> Iterator[int]:
        """Yield the places of this shard among so many records."""
        step = BLOCK * self.count
        for start in range(BLOCK * (self.index - 1), total, step):
            yield from range(start, min(start + BLOCK, total))


def find_shard(name: str | None, files: Sequence[Path | None] = ()) -> Shard | None:
    """Read ``--shard``; ``files`` are the inputs, which every shard reads for itself.

    Raises:
        UsageError: it is no shard, or an input is standard input.
    """
    if name is None:
        return None
    if any(str(path) == "-" for path in files):
        raise UsageError("--shard: every shard reads all inputs, so none can be standard input")
    return Shard.parse(name)


def owner(place: int, count: int) -> Shard:
    """Return the shard, of so many, that has the record at a place."""
    return Shard(place // BLOCK % count + 1, count)
