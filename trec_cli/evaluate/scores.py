"""Reading scores files into arrays, and checking that systems answered the same questions."""

import shutil
import sys
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from trec_cli.core.errors import Fault, InputError
from trec_cli.core.jsonl import FaultList, candidates_problem, is_stream, read_lines
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.records import Identifier, Split
from trec_cli.core.temporary import room_explained, temporary_folder
from trec_cli.evaluate.metrics import Ints, Pools

_NAMED = 3
"""How many examples a message names."""
_REPORT_EVERY = 10_000
_COUNT_IT = "count it as a miss with --missed count; a retrieval must be charged for it"


class ScoresLine(msgspec.Struct, kw_only=True, gc=False):
    """One line of a scores file; ``example_id`` may be left out for ``user_id``.

    ``catalogue`` is the number of items that were ranked, where ``candidates`` are only the
    best of them.
    """

    user_id: Identifier
    split: Split
    candidates: list[Identifier]
    scores: list[float]
    positives: list[Identifier]
    example_id: Identifier | None = None
    catalogue: Annotated[int, msgspec.Meta(ge=1)] | None = None

    @property
    def example(self) -> str:
        """The example's id."""
        return self.example_id or self.user_id


def read_scores(path: Path | str) -> Iterator[tuple[int, ScoresLine]]:
    """Yield (line, record) of a scores file, some million candidates a second."""
    return read_lines(path, msgspec.json.Decoder(ScoresLine).decode)


class _SplitOfLine(msgspec.Struct):
    """The one field that :func:`holds_split` looks at."""

    split: Split


def holds_split(path: Path, split: Split) -> bool:
    """Check whether a scores file has an example of ``split``, or is damaged.

    What is damaged is explained by whoever reads it; it is not passed over.
    """
    decode = msgspec.json.Decoder(_SplitOfLine).decode
    try:
        return any(record.split == split for _, record in read_lines(path, decode))
    except InputError:
        return True


@dataclass(frozen=True)
class ScoresFile:
    """A system's scores file, and its name in messages."""

    name: str
    path: Path
    shown: str = ""

    def __str__(self) -> str:
        """Name the file as the user did."""
        return self.shown or str(self.path)


@contextmanager
def at_hand(files: Sequence[ScoresFile]) -> Iterator[list[ScoresFile]]:
    """Yield files that can be read more than once: standard input goes to a temporary one."""
    if not any(is_stream(file.path) for file in files):
        yield list(files)
        return
    with temporary_folder("eval") as folder:
        yield [_spooled(file, folder) if is_stream(file.path) else file for file in files]


def _spooled(file: ScoresFile, folder: Path) -> ScoresFile:
    copy = folder / "scores.jsonl"
    with room_explained("keep standard input"), copy.open("wb") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return replace(file, path=copy, shown="standard input")


@dataclass(frozen=True)
class System:
    """All scores of one system on one split, without the candidates' names.

    Attributes:
        file: where they were read.
        examples: index of every example id, in file order.
        users: the examples' user ids.
        lines: the examples' lines in the file.
        contents: ``[examples, 2]`` hashes of the sets of candidates and of positives,
            comparable within one process.
        pools: the numbers.
    """

    file: ScoresFile
    examples: dict[str, int]
    users: list[str]
    lines: Ints
    contents: Ints
    pools: Pools

    @property
    def name(self) -> str:
        """The system's name."""
        return self.file.name

    @property
    def ranks_catalogue(self) -> NDArray[np.bool_]:
        """Which examples' candidates are the best of a catalogue: another system has others."""
        if self.pools.catalogue is None:
            return np.zeros(len(self.users), dtype=bool)
        return self.pools.catalogue > 0

    @property
    def missed(self) -> int:
        """How many positives are not among the candidates."""
        return int((self.pools.positive_at < 0).sum())

    def ranking(self, catalogue: int) -> "System":
        """Return the system with candidates as the best of a catalogue of this size.

        Raises:
            InputError: it holds fewer items than an example has candidates and positives.
        """
        own = np.zeros(len(self.users), dtype=np.int64)
        own = own if self.pools.catalogue is None else self.pools.catalogue
        sizes = np.where(own > 0, own, catalogue)
        missed = np.bincount(self.pools.example[self.pools.positive_at < 0], minlength=len(sizes))
        if short := np.flatnonzero(np.diff(self.pools.offsets) + missed > sizes).tolist():
            line = int(self.lines[short[0]])
            what = f"has more candidates and positives than the catalogue of {catalogue} items"
            raise InputError([Fault(str(self.file), line, what, "check --items")])
        return replace(self, pools=replace(self.pools, catalogue=sizes))

    def has_candidates(self, index: int, candidates: Iterable[str]) -> bool:
        """Check whether an example's candidates are these, in any order."""
        return bool(self.contents[index, 0] == hash(frozenset(candidates)))

    def has_positives(self, index: int, positives: Iterable[str]) -> bool:
        """Check whether an example's positives are these."""
        return bool(self.contents[index, 1] == hash(frozenset(positives)))

    def like(self, first: "System") -> "System":
        """Return the same system in the order of another that has the same examples and users.

        Ids are then the other's: there may be millions.
        """
        order = _places(first.examples, self)
        same = replace(self, examples=first.examples, users=first.users)
        return same if np.array_equal(order, np.arange(len(order))) else same._taking(order)

    def only(self, wanted: Collection[str]) -> "System":
        """Return the system's answers to those of some examples that it has, in its own order."""
        names = [example for example in self.examples if example in wanted]
        if len(names) == len(self.examples):
            return self
        order = _places(names, self)
        users = [self.users[index] for index in order.tolist()]
        fewer = {name: index for index, name in enumerate(names)}
        return replace(self, examples=fewer, users=users)._taking(order)

    def _taking(self, order: Ints) -> "System":
        """Take the numbers of some examples, in this order."""
        return replace(
            self,
            lines=self.lines[order],
            contents=self.contents[order],
            pools=_take_pools(self.pools, order),
        )


def _take_pools(pools: Pools, order: Ints) -> Pools:
    """Return the lists of some examples, in this order."""
    widths, starts = np.diff(pools.offsets)[order], pools.offsets[:-1][order]
    ends = np.concatenate([[0], np.cumsum(widths)])
    shift = ends[:-1] - starts
    at = np.arange(ends[-1]) - np.repeat(shift, widths)
    places = np.full(len(pools.offsets) - 1, -1)
    places[order] = np.arange(len(order))
    owner = places[pools.example]
    kept = np.flatnonzero(owner >= 0)
    kept = kept[np.argsort(owner[kept], kind="stable")]
    positive_at, owner = pools.positive_at[kept], owner[kept]
    moved = np.where(positive_at >= 0, positive_at + shift[owner], -1 - owner)
    catalogue = None if pools.catalogue is None else pools.catalogue[order]
    return Pools(pools.scores[at], ends, moved, catalogue)


@dataclass
class _Columns:
    """The growing arrays of a file being read.

    ``rows`` has five numbers an example: its line, the hashes of its sets of candidates and
    of positives, how many candidates it has, and of how many items they are the best.
    """

    faults: FaultList
    count_missed: bool = False
    examples: dict[str, int] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    scores: "array[float]" = field(default_factory=lambda: array("d"))
    positive_at: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, line: int, record: ScoresLine) -> None:
        """Take one record in, or note what is wrong with it."""
        example, candidates, positives = record.example, record.candidates, record.positives
        pool, right = frozenset(candidates), frozenset(positives)
        # This runs once an example, of which there may be millions: one look at everything.
        sound = (
            len(pool) == len(candidates) == len(record.scores)
            and 0 < len(right) == len(positives)
            and right <= pool
            and example not in self.examples
            and not record.catalogue
        )
        problem = None if sound else _problem(record, self.examples, self.count_missed)
        if problem:
            self.faults.add(line, f"example {example!r}: {problem[0]}", problem[1])
            return
        self.examples[example] = len(self.users)
        self.users.append(record.user_id)
        catalogue = record.catalogue or 0
        self.rows.extend((line, hash(pool), hash(right), len(candidates), catalogue))
        start = len(self.scores)
        self.scores.fromlist(record.scores)
        for item in positives:
            at = start + candidates.index(item) if item in pool else -len(self.users)
            self.positive_at.append(at)

    def system(self, file: ScoresFile) -> System:
        """Return the arrays, once all lines are in."""
        rows = np.frombuffer(self.rows, dtype=np.int64).reshape(-1, 5).T
        lines, *contents, widths, catalogue = rows
        pools = Pools(
            np.frombuffer(self.scores, dtype=np.float64),
            np.concatenate([[0], np.cumsum(widths)]),
            np.frombuffer(self.positive_at, dtype=np.int64),
            catalogue if catalogue.any() else None,
        )
        return System(file, self.examples, self.users, lines, np.stack(contents, axis=1), pools)


def _problem(
    record: ScoresLine, seen: dict[str, int], count_missed: bool
) -> tuple[str, str] | None:
    """Return the first problem of a record and its remedy, or None.

    That scores are finite has been seen to: JSON has no other numbers, and one that is too
    large for a float is refused when the line is decoded.
    """
    if record.example in seen:
        return "stands twice", "keep one line per example_id"
    if len(record.scores) != len(record.candidates):
        counts = f"{len(record.candidates)} candidates but {len(record.scores)} scores"
        return counts, "give one score per candidate"
    listed, right = set(record.candidates), set(record.positives)
    missing = sorted(right - listed)
    if listed and missing and not count_missed:
        return f"positive {missing[0]!r} is not among its candidates", _COUNT_IT
    if record.catalogue and record.catalogue < len(listed | right):
        more = f"{len(listed | right)} candidates and positives"
        return f"{more}, but a catalogue of {record.catalogue}", "correct one of them"
    counted = missing if count_missed else []
    return candidates_problem([*record.candidates, *counted], record.positives)


def read_system(
    file: ScoresFile,
    split: Split,
    progress: Progress | None = None,
    *,
    count_missed: bool = False,
) -> System:
    """Read a system's scores of one split.

    With ``count_missed``, a positive may be missing from the candidates.

    Raises:
        InputError: faults of the lines, or no example of the split.
    """
    columns = _Columns(FaultList(str(file)), count_missed)
    others: set[str] = set()
    try:
        with (progress or Silent()).task(f"reading {file}") as task:
            for line, record in read_scores(file.path):
                if record.split == split:
                    columns.add(line, record)
                else:
                    others.add(record.split)
                if not line % _REPORT_EVERY:
                    task.advance(_REPORT_EVERY)
    except InputError as error:
        raise _renamed(error, file) from None
    columns.faults.raise_if_any()
    if others == {"predict"} and not columns.users:
        raise InputError.of(
            file,
            "has only questions without an answer (split predict): nothing to evaluate",
            "name scores of a split whose answers are known",
        )
    if not columns.users:
        has = ", ".join(sorted(others))
        raise InputError.of(file, f"has no example of split {split}", f"it has {has}: --split")
    return columns.system(file)


def _renamed(error: InputError, file: ScoresFile) -> InputError:
    """Make faults name the file as the user did, not a temporary copy."""
    own = str(file.path)
    return InputError([replace(f, file=str(file)) if f.file == own else f for f in error.faults])


def in_common(systems: Sequence[System]) -> list[System]:
    """Return all systems with the examples alone that each has answered.

    Raises:
        InputError: there is none.
    """
    shared = set(systems[0].examples)
    for system in systems[1:]:
        shared &= system.examples.keys()
    if not shared:
        files = ", ".join(str(system.file) for system in systems)
        raise InputError.of(files, "have no example in common", "compare scores of one split")
    return [system.only(shared) for system in systems]


def align(systems: Sequence[System]) -> list[System]:
    """Return all systems in the example order of the first.

    Raises:
        InputError: a system answers other examples than the first, or has other users,
            candidates or positives in one; the first few are named.
    """
    first, *others = systems
    faults = [fault for system in others for fault in _differences(first, system)]
    if faults:
        raise InputError(faults)
    return [first, *(system.like(first) for system in others)]


def _places(examples: Collection[str], system: System) -> Ints:
    """Return the indexes of some examples in a system."""
    indexes = map(system.examples.__getitem__, examples)
    return np.fromiter(indexes, dtype=np.int64, count=len(examples))


def _differences(first: System, other: System) -> Iterator[Fault]:
    """Yield one fault per way in which ``other`` differs from ``first``."""
    fix = "compare systems that ranked the same candidates of the same examples"

    def fault(what: str, ids: Sequence[str], holder: System) -> Iterator[Fault]:
        if ids:
            named = ", ".join(
                f"{i!r} ({holder.file}, line {holder.lines[holder.examples[i]]})"
                for i in ids[:_NAMED]
            )
            count = f"{len(ids)} examples" if len(ids) > 1 else "1 example"
            yield Fault(str(other.file), None, f"{count} {what}, for example {named}", fix)

    missing = [i for i in first.examples if i not in other.examples]
    extra = [i for i in other.examples if i not in first.examples]
    both = [i for i in first.examples if i in other.examples]
    yield from fault(f"of {first.file} missing", missing, first)
    yield from fault(f"not in {first.file}", extra, other)
    here, there = _places(both, first), _places(both, other)
    users = zip(here.tolist(), there.tolist(), strict=True)
    contents = first.contents[here] != other.contents[there]
    own_lists = first.ranks_catalogue[here] & other.ranks_catalogue[there]
    kinds: dict[str, Iterable[bool]] = {
        "another user": (first.users[a] != other.users[b] for a, b in users),
        "other candidates": contents[:, 0] & ~own_lists,
        "other positives": contents[:, 1],
    }
    for what, differs in kinds.items():
        ids = list(compress(both, differs))
        yield from fault(f"with {what} than in {first.file}", ids, other)
