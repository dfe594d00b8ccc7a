"""What `examples.jsonl` says of the evaluated examples and of the training users."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from trec_cli.core.arrays import Takers
from trec_cli.core.jsonl import read_lines
from trec_cli.core.records import Identifier, Split
from trec_cli.core.shelves import Slices
from trec_cli.evaluate.metrics import Ints
from trec_cli.evaluate.scores import System


class ExampleLine(msgspec.Struct, kw_only=True, gc=False):
    """What the evaluation needs of a line of `examples.jsonl`."""

    user_id: Identifier
    split: Split
    history: list[str]
    positives: list[str] = []
    missed: list[str] | None = None
    example_id: Identifier | None = None

    @property
    def right(self) -> list[str]:
        """Every right item, those included that are not among the candidates."""
        return [*self.positives, *(self.missed or ())]

    @property
    def example(self) -> str:
        """The example's id."""
        return self.example_id or self.user_id


class AskedLine(ExampleLine, kw_only=True, gc=False):
    """The same with the candidates, in the file's order."""

    candidates: list[str] = []


Line = TypeVar("Line", bound=ExampleLine)


def read_example_lines(path: Path, kind: type[Line]) -> Iterator[Line]:
    """Yield the lines of `examples.jsonl`, one at a time: there may be millions."""
    return (record for _, record in read_lines(path, msgspec.json.Decoder(kind).decode))


@dataclass(frozen=True)
class Background:
    """What is known of the evaluated examples, in their order.

    Attributes:
        lengths: items in the history, ``[examples]``; -1 for an example that is not in the
            file, or has other positives there than those that were scored.
        positives: item ids of each example's positives.
        takers: number of users of split train who have an item in their history or as
            positive, as the popularity baseline counts them; empty without such users.
        users: number of these users.
    """

    lengths: Ints
    positives: Sequence[Sequence[str]]
    takers: Mapping[str, int]
    users: int = 0

    @property
    def missing(self) -> int:
        """How many examples are not in the file as they were scored."""
        return int((self.lengths < 0).sum())


class _Answers(Slices[list[str]]):
    """The positives of many examples, as numbers of items; at first nobody has any."""

    def __init__(self, number: int) -> None:
        self._starts = np.zeros(number, dtype=np.int64)
        self._sizes = np.zeros(number, dtype=np.int32)
        self._items: dict[str, int] = {}
        self._codes = array("i")

    def put(self, index: int, items: Sequence[str]) -> None:
        """Note the positives of an example."""
        self._starts[index], self._sizes[index] = len(self._codes), len(items)
        known = self._items
        self._codes.extend([known.setdefault(item, len(known)) for item in items])

    def __len__(self) -> int:
        return len(self._starts)

    def at(self, index: int) -> list[str]:
        start = self._starts[index]
        return [self._names[code] for code in self._codes[start : start + self._sizes[index]]]

    @cached_property
    def _names(self) -> list[str]:
        return list(self._items)


def read_background(path: Path, asked: System, split: Split) -> Background:
    """Read what there is to know of the examples that a system was asked.

    Raises:
        InputError: the file is faulty.
    """
    lengths = np.full(len(asked.examples), -1, dtype=np.int64)
    positives = _Answers(len(asked.examples))
    takers = Takers()
    for record in read_example_lines(path, ExampleLine):
        index = asked.examples.get(record.example) if record.split == split else None
        if index is not None and asked.has_positives(index, record.right):
            lengths[index] = len(record.history)
            positives.put(index, record.right)
        if record.split == "train":
            takers.add(record.user_id, (*record.history, *record.right))
    asked.let_go()
    return Background(lengths, positives, *takers.counts())
