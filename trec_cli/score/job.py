"""What is scored, read once, and the one shape of a job that every scorer has."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import content_hash, hashed_while_read, is_stream, read_items
from trec_cli.core.records import PREDICT, Example, Item, Reason, Summary
from trec_cli.core.shards import Shard
from trec_cli.core.stored import of_split, open_examples, open_summaries, splits_of
from trec_cli.score.options import Asked

if TYPE_CHECKING:
    from trec_cli.prompts.recommend import PromptPart

_BATCH = 256


@dataclass(frozen=True)
class Material:
    """All that a scorer reads, each file opened once.

    Attributes:
        items: the catalogue.
        everything: the examples of all splits; of a scorer that learns nothing from them,
            those to score alone, of all shards.
        examples: those to score.
        summaries: by example id; None where the scorer reads none.
        files: what was read.
        hashes: of the files, by path.
        settings: what decides the scores, whoever computes them.
    """

    items: dict[str, Item]
    everything: Sequence[Example]
    examples: Sequence[Example]
    summaries: Mapping[str, Summary] | None
    files: Sequence[Path]
    hashes: Mapping[str, str]
    settings: Mapping[str, Any]


def read_material(
    asked: Asked,
    scorer: str,
    summaries: Path | None = None,
    *,
    learns: bool = True,
    shard: Shard | None = None,
) -> Material:
    """Read the files of a scorer.

    Args:
        asked: files, split and limit.
        scorer: its name.
        summaries: their file, where the scorer reads some.
        learns: whether the scorer needs the examples of all splits.
        shard: part of the examples to score; None for all.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
    """
    files = asked.files(summaries)
    check_there(files)
    with hashed_while_read() as hashes:
        items = read_items(files[0])
        everything: Sequence[Example] = open_examples(files[1], items)
        found = open_summaries(summaries) if summaries else None
    chosen = _choose(asked, everything)
    examples = shard.take(chosen) if shard else chosen
    if not learns:
        everything = chosen
    settings: dict[str, Any] = {"scorer": scorer, "split": asked.split, "limit": asked.limit}
    if shard:
        settings["shard"] = str(shard)
    if any(map(is_stream, files)):  # the name of a stream says nothing of what it held
        read: list[Iterable[Any]] = [everything, (found or {}).values()]
        if is_stream(files[0]):
            read.insert(0, items.values())
        settings["streamed"] = content_hash(chain.from_iterable(read))
    return Material(items, everything, examples, found, files, hashes, settings)


def check_there(files: Sequence[Path]) -> None:
    """Refuse a missing file before any other is read or a model is looked for.

    Raises:
        InputError: naming it.
    """
    for path in files:
        if not is_stream(path) and not path.exists():
            raise InputError.missing(path)


def _choose(asked: Asked, examples: Sequence[Example]) -> Sequence[Example]:
    """Take the first examples of the split.

    Raises:
        InputError: there is none, or some have no candidates.
    """
    chosen = of_split(examples, asked.split, asked.limit)
    if not chosen:
        there = set(splits_of(examples))
        raise InputError.of(
            asked.examples_file,
            f"holds no example of split {asked.split}; it has {', '.join(sorted(there))}",
            "choose one with --split; for recommendations run trec recommend"
            if PREDICT in there
            else "choose one with --split, or prepare the data with this one",
        )
    bare = sum(not example.candidates for example in chosen)
    if bare:
        raise InputError.of(
            asked.examples_file,
            f"holds {bare:,} examples of split {asked.split} without candidates",
            "run trec prepare with --candidates retrieve:200, or rank the whole catalogue with "
            "trec recommend",
        )
    return chosen


@dataclass(frozen=True)
class Cost:
    """What one or several examples cost.

    Attributes:
        users, candidates: how many.
        tokens: in forward passes.
        separate_tokens: in forward passes, were every prompt computed by itself.
    """

    users: int = 0
    candidates: int = 0
    tokens: int = 0
    separate_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Sum the costs of different examples."""
        return Cost(
            self.users + other.users,
            self.candidates + other.candidates,
            self.tokens + other.tokens,
            self.separate_tokens + other.separate_tokens,
        )

    @property
    def saved(self) -> float:
        """Share of tokens that sharing the prefix saves."""
        return 1 - self.tokens / self.separate_tokens if self.separate_tokens else 0.0


class Job:
    """Examples to score, in which batches, and how; a scorer overrides what it needs.

    Attributes:
        system: name of the output where the user gives none.
        examples: in the order of the output.
        settings: everything beside the inputs that decides the scores.
        inputs: the files that decide them.
        fixed: the last of these, which are the same model: they never grow.
        hashes: those of the inputs that are known already, by path.
        unfinished: what else must be the same for an unfinished output to be continued.
    """

    unfinished: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        system: str,
        material: Material,
        settings: Mapping[str, Any],
        inputs: Sequence[Path] = (),
        fixed: Sequence[Path] = (),
    ) -> None:
        """Prepare to score; settings and files are those beside the material's."""
        self.system, self.examples, self.hashes = system, material.examples, material.hashes
        self.settings = {**material.settings, **settings}
        self.inputs, self.fixed = [*material.files, *inputs, *fixed], fixed

    def batches(self) -> Sequence[Sequence[int]]:
        """Plan the batches, as indices into ``examples``; the same every time."""
        count = len(self.examples)
        return [range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples.

        Raises:
            PartialError: this batch failed and others may not; it is left for the next run.
        """
        raise NotImplementedError

    def keys(self, batch: Sequence[int]) -> list[str] | None:  # noqa: ARG002
        """Hash, for each example of a batch, all that decides its scores beside the settings.

        None where a score depends on more than the batch, as it does where it was learnt.
        """
        return None

    def reasons(
        self,
        indices: Sequence[int],
        chosen: Sequence[Sequence[str]],  # noqa: ARG002
    ) -> Sequence[Sequence[Reason | None]]:
        """Say why the items chosen for some examples are recommended, as far as it is known."""
        return [() for _ in indices]

    def cost(self, index: int) -> Cost:
        """Return what an example costs."""
        return Cost(users=1, candidates=len(self.examples[index].candidates))

    def running(self, out: Path) -> AbstractContextManager[None]:  # noqa: ARG002
        """Hold what scoring into ``out`` needs."""
        return nullcontext()

    def details(self) -> Mapping[str, Any]:
        """Return what else belongs into the manifest."""
        return {}

    def spent(self) -> Mapping[str, Any]:
        """Return what the user should know even where scoring failed."""
        return {}

    def remarks(self) -> Sequence[str]:
        """Return, after scoring, what the user should know."""
        return []

    def describe(self) -> "Sequence[PromptPart]":
        """Write out the first prompt, part by part; empty where there are no prompts."""
        return []

    def outlook(self, out: Path) -> tuple[str, dict[str, Any]]:
        """Return, in words and in fields, what scoring would do."""
        count = len(self.examples)
        return f"would score {count} examples into {out}", {"examples": count}
