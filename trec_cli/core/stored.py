"""Examples and summaries of a file, read once and kept by their place (:mod:`shelves`)."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from trec_cli.core.jsonl import iter_examples, iter_summaries
from trec_cli.core.names import ByName
from trec_cli.core.records import SPLITS, Example, Item, Split, Summary
from trec_cli.core.shelves import Chosen, Slices


class Examples(Slices[Example]):
    """The examples of a file, in its order."""

    def __init__(self) -> None:
        """Start without examples."""
        self.names = ByName(Example)
        self._splits = array("b")

    def add(self, example: Example) -> None:
        """Put an example behind the others."""
        self.names.add(example)
        self._splits.append(SPLITS.index(example.split))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._splits)

    def at(self, index: int) -> Example:
        """Return the example at a place from 0 on."""
        return self.names.records[index]

    def splits(self) -> Iterator[Split]:
        """Yield the split of every example, in order."""
        return (SPLITS[split] for split in self._splits)


def open_examples(path: Path | str, items: dict[str, Item] | None = None) -> Examples:
    """Read `examples.jsonl`, and check that every example makes sense.

    Raises:
        InputError: see :func:`~trec_cli.core.jsonl.iter_examples`.
        PartialError: the disk for temporary files is full.
    """
    examples = Examples()
    for example in iter_examples(path, items, examples.names):
        examples.add(example)
    return examples


def open_summaries(path: Path | str) -> Mapping[str, Summary]:
    """Read `summaries-MODE.jsonl` by ``example_id``.

    Raises:
        InputError: see :func:`~trec_cli.core.jsonl.iter_summaries`.
        PartialError: the disk for temporary files is full.
    """
    summaries = ByName(Summary)
    for summary in iter_summaries(path, summaries):
        summaries.add(summary)
    return summaries


def splits_of(examples: Sequence[Example]) -> Iterator[Split]:
    """Yield the split of every example, in order; of stored ones without reading them."""
    if isinstance(examples, Examples):
        return examples.splits()
    return (example.split for example in examples)


def of_split(
    examples: Sequence[Example], split: Split, limit: int | None = None
) -> Chosen[Example]:
    """Return the first ``limit`` examples of a split (all without), as a view."""
    found = (place for place, each in enumerate(splits_of(examples)) if each == split)
    return Chosen(examples, found if limit is None else islice(found, limit))
