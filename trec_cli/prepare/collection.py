"""What every reader gives, whatever the collection: a catalogue and its users' questions."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Ids
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.options import Option
from trec_cli.core.records import Item, Split

READING = "Reading"
Offer = Literal["fixed", "impression"]
Target = Literal["history", "impression"]
Part = Literal["train", "dev", "test"]
Long = Literal["keep-last", "drop"]


@dataclass(slots=True)
class Question:
    """What a user had seen and what came next, before anything is filtered or drawn.

    Attributes:
        history: item ids, oldest first.
        positives: what came next: the target, or all clicked articles of an impression.
        timestamp: seconds since 1970 of the target, or None.
        times: seconds of every history item, where the source has them.
        ratings: of every history item and then of every positive, where the source has them;
            None where a single one is missing.
        offered: negatives that come with the source: fixed ones or those of the impression.
        suffix: tells several examples of one user apart; ends the ``example_id``.
        split: set where the way of splitting decides it at once (leave-last-out).
        part: the part of the source that it stands in, where the source is published in
            parts of its own (MIND): ``train``, ``dev`` or ``test``.
        file, line: where it stands, for messages.
    """

    user_id: str
    history: list[str]
    positives: list[str]
    timestamp: float | None = None
    times: list[float] | None = None
    ratings: list[float | None] | None = None
    offered: list[str] | None = None
    suffix: str = ""
    split: Split | None = None
    part: Part | None = None
    file: str = ""
    line: int | None = None

    @property
    def example_id(self) -> str:
        """The id of the example made from it."""
        return self.user_id + self.suffix


@dataclass(frozen=True)
class Catalogue:
    """The items of a collection, read no sooner than needed.

    Attributes:
        ids: ids of all items with any text.
        fetch: gives the items of the given sorted ids, in this order.
        name: the file's name, for messages.
        known: ids of all items, those without text included.
    """

    ids: set[str]
    fetch: Callable[[list[str]], Iterable[Item]]
    name: str
    known: Ids[str] = ()


@dataclass(frozen=True)
class Collection:
    """A collection as read: ``questions`` is read once, and fills ``counts`` meanwhile.

    Attributes:
        offers: what kind of negatives ``offered`` holds, where it holds any.
        counts: what the reader saw and left out, by words for people.
        is_log: whether the questions are timelines made of single events, where the order of
            equal times in the file means nothing; otherwise the source orders every history.
        file: of the questions, for messages.
    """

    catalogue: Catalogue
    questions: Iterator[Question]
    offers: Offer | None = None
    counts: Counter[str] = field(default_factory=Counter)
    is_log: bool = False
    file: str = ""


@dataclass(frozen=True)
class ReadOptions:
    """How a collection is read; beside ``attributes`` every option is for some formats only."""

    attributes: Annotated[
        tuple[str, ...] | None,
        Option(
            "Texts to keep of an item, in order: title,brand",
            panel=READING,
            default_text="the paper's",
        ),
    ] = None
    target: Annotated[
        Target,
        Option(
            "MIND: the last click of the history (as in the paper), or the clicked articles of "
            "the impression.",
            panel=READING,
        ),
    ] = "history"
    per_impression: Annotated[
        bool,
        Option(
            "MIND: every impression is an example, not only a user's last.",
            panel=READING,
            names=("--per-impression",),
        ),
    ] = False
    locale: Annotated[str, Option("Amazon-M2: UK, DE, JP, ES, FR or IT.", panel=READING)] = "UK"
    columns: Annotated[
        tuple[str, ...] | None,
        Option(
            "Logs: user=COLUMN,item=COLUMN,time=COLUMN,rating=COLUMN; numbers without a header.",
            panel=READING,
            default_text="by their names",
        ),
    ] = None
    time_format: Annotated[
        str | None,
        Option(
            "Logs: how dates are written, like %d.%m.%Y.", panel=READING, default_text="found out"
        ),
    ] = None
    items: Annotated[
        Path | None,
        Option("Logs: the table of items, where it lies somewhere else.", panel=READING),
    ] = None


@dataclass(frozen=True)
class Defaults:
    """What a format takes where the user says nothing; None keeps all attributes."""

    attributes: tuple[str, ...] | None = None
    min_history: int = 1
    max_history: int = 50
    long: Long = "keep-last"


def catalogue_of(items: dict[str, Item], name: str) -> Catalogue:
    """Make a catalogue of items in memory; those without any text are left out."""
    known = {item_id for item_id, item in items.items() if item.text()}
    return Catalogue(known, lambda ids: (items[item_id] for item_id in ids), name, items)


def check_rows(number: int, file: object) -> None:
    """Check that a table has more than a header; a file without a line is refused before.

    Raises:
        InputError: naming it.
    """
    if not number:
        raise InputError.of(file, "has no rows", "make it again: the export, or the stage before")


def check_attributes(chosen: Iterable[str] | None, known: Iterable[str]) -> None:
    """Check that the collection has the attributes.

    Raises:
        UsageError: naming the wrong ones and those that there are.
    """
    there = list(known)
    wrong = [name for name in chosen or () if name not in there]
    if wrong:
        raise UsageError(
            f"no attribute {', '.join(wrong)} in this collection; there are {', '.join(there)}"
        )
