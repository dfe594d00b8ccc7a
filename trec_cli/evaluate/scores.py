"""Reading scores files as ranks, and checking that systems answered the same questions."""

import shutil
import sys
from array import array
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from trec_cli.core.arrays import Columns, distinct, let_go, take
from trec_cli.core.errors import Fault, InputError
from trec_cli.core.jsonl import FaultList, candidates_problem, is_stream, read_lines
from trec_cli.core.names import Names, Texts
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.records import Identifier, Split
from trec_cli.core.temporary import room_explained, temporary_folder
from trec_cli.core.text import counted
from trec_cli.evaluate.metrics import Ints, Pools, Ranks, rank

_NAMED = 3
"""How many examples a message names."""
_REPORT_EVERY = 10_000
_PART = 1 << 14
"""Examples whose scores are in memory together."""
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
    """All answers of one system on one split, as the ranks of the positives.

    Of an example there are some numbers, which are in a temporary file where they are many:
    memory is the same for a thousand examples and for millions.

    Attributes:
        file: where they were read.
        examples: every example id, in file order.
        users: the examples' user ids.
        lines: the examples' lines in the file.
        contents: ``[2, examples]`` hashes of the sets of candidates and of positives,
            comparable within one process.
        widths: the number of candidates of each example.
        catalogue: of how many items these are the best; 0 where they are all.
        ranks: of the positives.
    """

    file: ScoresFile
    examples: Names
    users: Names
    lines: Ints
    contents: Ints
    widths: Ints
    catalogue: Ints
    ranks: Ranks

    @property
    def name(self) -> str:
        """The system's name."""
        return self.file.name

    @property
    def ranks_catalogue(self) -> NDArray[np.bool_]:
        """Which examples' candidates are the best of a catalogue: another system has others."""
        return self.catalogue > 0

    @property
    def missed(self) -> int:
        """How many positives are not among the candidates."""
        return int(self.ranks.missed.sum())

    def ranking(self, catalogue: int) -> "System":
        """Return the system with candidates as the best of a catalogue of this size.

        Raises:
            InputError: it holds fewer items than an example has candidates and positives.
        """
        sizes = np.where(self.catalogue > 0, self.catalogue, catalogue)
        ranks = self.ranks
        missed = np.bincount(ranks.example[ranks.missed], minlength=len(sizes))
        if short := np.flatnonzero(self.widths + missed > sizes).tolist():
            line = int(self.lines[short[0]])
            items = counted(catalogue, "item")
            what = f"has more candidates and positives than the catalogue of {items}"
            raise InputError([Fault(str(self.file), line, what, "check --items")])
        whole = replace(ranks, candidates=sizes, ranked=ranks.positives)
        return replace(self, catalogue=sizes, ranks=whole)

    def has_candidates(self, index: int, candidates: Iterable[str]) -> bool:
        """Check whether an example's candidates are these, in any order."""
        return bool(self.contents[0, index] == hash(frozenset(candidates)))

    def has_positives(self, index: int, positives: Iterable[str]) -> bool:
        """Check whether an example's positives are these."""
        return bool(self.contents[1, index] == hash(frozenset(positives)))

    def like(self, first: "System") -> "System":
        """Return the same system in the order of another that has the same examples and users.

        Ids are then the other's: there may be millions.
        """
        same = replace(self, examples=first.examples, users=first.users)
        order = self.examples.places_of(first.examples)
        return same if np.array_equal(order, np.arange(len(order))) else same._taking(order)

    def only(self, wanted: NDArray[np.bool_]) -> "System":
        """Return the system's answers to some of its examples."""
        if wanted.all():
            return self
        order = np.flatnonzero(wanted)
        fewer = replace(self, examples=self.examples.only(order), users=self.users.only(order))
        return fewer._taking(order)

    def _taking(self, order: Ints) -> "System":
        """Take the numbers of some examples, in this order."""
        numbers = take((self.lines, *self.contents, self.widths, self.catalogue), order)
        lines, _, _, widths, catalogue = numbers
        ranks = self.ranks.take(order)
        names = self.file, self.examples, self.users
        return System(*names, lines, numbers[1:3], widths, catalogue, ranks)

    def let_go(self) -> None:
        """Take what is in files out of memory; see :mod:`~trec_cli.core.arrays`."""
        let_go(self.contents)
        self.ranks.let_go()


class _Columns:
    """The growing columns of a file being read; positives are ranked some examples at a time.

    ``rows`` has seven numbers an example: its line, the hashes of its sets of candidates and
    of positives, how many candidates it has, of how many items they are the best, and the
    hashes of example and user.
    """

    def __init__(self, faults: FaultList, count_missed: bool, seen: set[str] | None) -> None:
        """Take the place of faults; ``seen`` is where example ids are looked for, if at all."""
        self.faults, self.count_missed, self.seen = faults, count_missed, seen
        self.examples, self.users = Texts(), Texts()
        self._of_examples, self._of_positives = Columns(10), Columns(5)
        self._start()

    def _start(self) -> None:
        """Start the next part."""
        self.rows, self.scores, self.positive_at = array("q"), array("d"), array("q")
        self.count = 0

    def add(self, line: int, record: ScoresLine) -> None:
        """Take one record in, or note what is wrong with it."""
        example, candidates, positives = record.example, record.candidates, record.positives
        pool, right = frozenset(candidates), frozenset(positives)
        # This runs once an example, of which there may be millions: one look at everything.
        sound = (
            len(pool) == len(candidates) == len(record.scores)
            and 0 < len(right) == len(positives)
            and right <= pool
            and not record.catalogue
            and self.seen is None
        )
        problem = None if sound else _problem(record, self.seen or (), self.count_missed)
        if problem:
            self.faults.add(line, f"example {example!r}: {problem[0]}", problem[1])
            return
        if self.seen is not None:
            self.seen.add(example)
        user, catalogue = record.user_id, record.catalogue or 0
        self.examples.append(example)
        self.users.append(user)
        self.count += 1
        numbers = (line, hash(pool), hash(right), len(candidates), catalogue)
        self.rows.extend((*numbers, hash(example), hash(user)))
        start = len(self.scores)
        self.scores.fromlist(record.scores)
        for item in positives:
            self.positive_at.append(start + candidates.index(item) if item in pool else -self.count)
        if self.count == _PART:
            self._rank()

    def _rank(self) -> None:
        """Rank the positives of the last examples, whose scores are needed no more."""
        rows = np.frombuffer(self.rows, dtype=np.int64).reshape(-1, 7)
        pools = Pools(
            np.frombuffer(self.scores, dtype=np.float64),
            np.concatenate([[0], np.cumsum(rows[:, 3])]),
            np.frombuffer(self.positive_at, dtype=np.int64),
            rows[:, 4] if rows[:, 4].any() else None,
        )
        found, first = rank(pools), len(self.examples) - self.count
        numbers = (found.candidates, found.positives, found.ranked)
        self._of_examples.extend(np.column_stack([rows, *numbers]))
        standing = (found.ahead, found.tied, found.tied_positives, found.positives_ahead)
        self._of_positives.extend(np.column_stack([found.example + first, *standing]))
        self._start()

    def system(self, file: ScoresFile) -> System:
        """Return the columns, once all lines are in."""
        self._rank()
        numbers = self._of_examples.read()
        lines, _, _, widths, catalogue, example, user, *standing = numbers
        ranks = Ranks(*self._of_positives.read(), *standing)
        names = Names(self.examples, example), Names(self.users, user)
        return System(file, *names, lines, numbers[1:3], widths, catalogue, ranks)


def _problem(
    record: ScoresLine, seen: Container[str], count_missed: bool
) -> tuple[str, str] | None:
    """Return the first problem of a record and its remedy, or None.

    That scores are finite has been seen to: JSON has no other numbers, and one that is too
    large for a float is refused when the line is decoded.
    """
    if record.example in seen:
        return "stands twice", "keep one line per example_id"
    if len(record.scores) != len(record.candidates):
        counts = (
            f"{counted(len(record.candidates), 'candidate')} but "
            f"{counted(len(record.scores), 'score')}"
        )
        return counts, "give one score per candidate"
    listed, right = set(record.candidates), set(record.positives)
    missing = sorted(right - listed)
    if listed and missing and not count_missed:
        return f"positive {missing[0]!r} is not among its candidates", _COUNT_IT
    if record.catalogue and record.catalogue < len(listed | right):
        more = f"{len(listed | right):,} candidates and positives"
        return f"{more}, but a catalogue of {record.catalogue:,}", "correct one of them"
    ranked = [*record.candidates, *(missing if count_missed else ())]
    return candidates_problem(ranked, record.positives)


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
    # Ids that stand twice are looked for by their hashes.  Where there are such, or anything is
    # at fault, the file is read again: faults are told in the order of lines.
    with suppress(InputError):
        system = _read(file, split, progress or Silent(), count_missed, None)
        if len(distinct(system.examples.hashes)) == len(system.examples):
            return system
    return _read(file, split, Silent(), count_missed, set())


def _read(
    file: ScoresFile,
    split: Split,
    progress: Progress,
    count_missed: bool,
    seen: set[str] | None,
) -> System:
    columns = _Columns(FaultList(str(file)), count_missed, seen)
    others: set[str] = set()
    try:
        with progress.task(f"reading {file}") as task:
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
    if len(columns.examples):
        return columns.system(file)
    if others == {"predict"}:
        raise InputError.of(
            file,
            "has only questions without an answer (split predict): nothing to evaluate",
            "name scores of a split whose answers are known",
        )
    has = ", ".join(sorted(others))
    raise InputError.of(file, f"has no example of split {split}", f"it has {has}: --split")


def _renamed(error: InputError, file: ScoresFile) -> InputError:
    """Make faults name the file as the user did, not a temporary copy."""
    own = str(file.path)
    return InputError([replace(f, file=str(file)) if f.file == own else f for f in error.faults])


def in_common(systems: Sequence[System]) -> list[System]:
    """Return all systems with the examples alone that each has answered.

    Raises:
        InputError: there is none.
    """
    shared = systems[0].examples
    for system in systems[1:]:
        shared = shared.only(np.flatnonzero(system.examples.places_of(shared) >= 0))
    if not shared:
        files = ", ".join(str(system.file) for system in systems)
        raise InputError.of(files, "have no example in common", "compare scores of one split")
    return [system.only(shared.places_of(system.examples) >= 0) for system in systems]


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


def _differences(first: System, other: System) -> Iterator[Fault]:
    """Yield one fault per way in which ``other`` differs from ``first``."""
    same = "compare systems that ranked the same candidates of the same examples"
    every = "score all with one --split and --limit, or compare what all have answered: --common"

    def fault(what: str, places: Ints, holder: System, fix: str = same) -> Iterator[Fault]:
        if len(places):
            named = ", ".join(
                f"{holder.examples[i]!r} ({holder.file}, line {holder.lines[i]})"
                for i in places[:_NAMED].tolist()
            )
            count = counted(len(places), "example")
            yield Fault(str(other.file), None, f"{count} {what}, for example {named}", fix)

    there = other.examples.places_of(first.examples)
    extra = np.flatnonzero(first.examples.places_of(other.examples) < 0)
    yield from fault(f"of {first.file} missing", np.flatnonzero(there < 0), first, every)
    yield from fault(f"not in {first.file}", extra, other, every)
    here = np.flatnonzero(there >= 0)
    there = there[here]
    own_lists = first.ranks_catalogue[here] & other.ranks_catalogue[there]
    candidates, positives = (
        of_first[here] != of_other[there]
        for of_first, of_other in zip(first.contents, other.contents, strict=True)
    )
    kinds = {
        "another user": first.users.hashes[here] != other.users.hashes[there],
        "other candidates": candidates & ~own_lists,
        "other positives": positives,
    }
    for what, differs in kinds.items():
        yield from fault(f"with {what} than in {first.file}", there[differs], other)
