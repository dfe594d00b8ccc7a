"""The records that pass between stages, exactly as `docs/files.md` names them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import msgspec

Split = Literal["train", "valid", "test", "predict"]
Mode = Literal["hier", "recurrent", "attention", "none"]
Query = Literal["recent", "candidate"]
SPLITS: tuple[Split, ...] = get_args(Split)
PREDICT: Split = "predict"
"""The split of questions about the future: nobody knows their answer yet."""
ANSWERED: tuple[Split, ...] = tuple(split for split in SPLITS if split != PREDICT)
MODES: tuple[Mode, ...] = get_args(Mode)
Domain = Literal["auto", "news", "products", "general", "sentences"]
Flag = Literal[
    "empty",
    "echo",
    "unfaithful",
    "narrow",
    "repeats",
    "cut",
    "filtered",
    "extended",
    "retried",
    "extractive",
]
FLAGS: tuple[Flag, ...] = get_args(Flag)
"""What may be said of a summary; `docs/summaries.md` explains each."""

Identifier = Annotated[str, msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be recommended: an id and its texts in source order.

    The id is never shown to a model: in several collections it leaks the future.
    """

    item_id: str
    attributes: dict[str, str]

    @property
    def title(self) -> str:
        """The title, or an empty string."""
        return self.attributes.get("title", "")

    def text(self, names: Sequence[str] | None = None) -> str:
        """Write the attributes as ``name: value; name: value``, empty ones skipped.

        ``names`` chooses and orders the attributes; None takes all in source order.
        White space (newlines too) inside a name or a value becomes one blank, so that one
        item is always one line.
        """
        chosen = self.attributes if names is None else names
        pairs = ((name, " ".join(self.attributes.get(name, "").split())) for name in chosen)
        return "; ".join(f"{' '.join(name.split())}: {value}" for name, value in pairs if value)


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One question: which of ``candidates`` comes next after ``history``?

    Attributes:
        candidates: in an order that tells nothing; in split ``predict`` none before retrieval.
        positives: the candidates that are right; in split ``predict`` none.
        missed: right items that a retrieval left out of the candidates; None where every
            right item is a candidate.
        start: how many older items of the user a cap left out of ``history``.  Blocks are cut
            by it, so that a growing history keeps them.
        older: these items, oldest first; in split ``predict`` alone, so that what a user has is
            not recommended.
    """

    example_id: Identifier
    user_id: Identifier
    split: Split
    history: list[Identifier]
    candidates: list[Identifier]
    positives: list[Identifier]
    timestamp: int | float | None = None
    missed: list[Identifier] | None = None
    start: Annotated[int, msgspec.Meta(ge=0)] = 0
    older: list[Identifier] | None = None

    @property
    def right(self) -> list[str]:
        """The right answers, those that a retrieval missed included."""
        return [*self.positives, *(self.missed or ())]


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A summary of the history items ``start`` to ``end`` (end excluded).

    ``level`` is 0 for a summary made from items; a merge of summaries of level n
    has level n + 1.  In recurrent mode ``level`` counts the steps and ``start`` is 0,
    because each step's summary speaks of everything up to ``end``.

    ``flags`` say what was found in the text or done to it; left out where there is nothing.
    """

    level: Annotated[int, msgspec.Meta(ge=0)]
    start: Annotated[int, msgspec.Meta(ge=0)]
    end: Annotated[int, msgspec.Meta(ge=0)]
    summary: str
    flags: tuple[str, ...] = ()


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A range of history items that attention looks at as one, end excluded."""

    start: Annotated[int, msgspec.Meta(ge=0)]
    end: Annotated[int, msgspec.Meta(ge=0)]


class Attention(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much each block of a history counts (mode ``attention``).

    ``weights`` are those of the recent items as query, one for each of ``keys``.  With the
    candidates as query, ``candidates`` has for each candidate of the example, in its order,
    the highest weights as (place among the keys, weight), highest first.
    """

    query: Query
    keys: list[Key]
    weights: list[float]
    candidates: list[list[tuple[int, float]]] = []


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The preference summary of one example, with every intermediate one.

    Summaries made elsewhere need ``example_id`` and ``summary`` alone; ``mode`` may have any
    name.
    """

    example_id: Identifier
    user_id: str = ""
    split: Split | None = None
    mode: str = ""
    summary: str
    blocks: list[Block] = []
    model: str = ""
    attention: Attention | None = None


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """One score per candidate (for an LLM the log-odds of yes), in candidate order."""

    example_id: Identifier
    user_id: Identifier
    split: Split
    candidates: list[Identifier]
    scores: list[float]
    positives: list[Identifier]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """What spoke most for an item: the signal, and the history item that it comes from."""

    signal: str
    history_item: str


class UserSequence(msgspec.Struct, frozen=True, kw_only=True):
    """A raw user sequence of a plain JSONL collection, oldest item first."""

    user_id: Identifier
    items: list[Identifier]
    random_candidates: list[Identifier] | None = None
    timestamps: Sequence[int | float | str] | None = None
