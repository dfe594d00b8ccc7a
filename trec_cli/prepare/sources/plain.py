"""Plain JSONL: ``items.jsonl`` and ``sequences.jsonl``, as `docs/prepare.md` shows them.

The last item of a sequence is the target.  ``random_candidates`` are negatives that the
collection fixes; the target is added to them.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from sys import intern

from trec_cli.core.jsonl import FaultList, iter_sequences, read_items
from trec_cli.core.progress import Progress
from trec_cli.core.records import Item, UserSequence
from trec_cli.core.text import counted
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import (
    Collection,
    Defaults,
    Question,
    ReadOptions,
    catalogue_of,
    check_attributes,
)
from trec_cli.prepare.formats import Files, Format, one_of_each
from trec_cli.prepare.sources.clock import Clock
from trec_cli.prepare.text import meant


def _find(source: Source) -> Files | None:
    return one_of_each(source, "items", "sequences", ending=r"\.jsonl")


def _read(source: Source, files: Files, options: ReadOptions, progress: Progress) -> Collection:
    (items,), (sequences,) = files["items"], files["sequences"]
    with source.reading(items) as path:
        catalogue = read_items(path, numeric_ids=True)
    known = dict.fromkeys(name for item in catalogue.values() for name in item.attributes)
    check_attributes(options.attributes, known)
    catalogue = {
        item_id: _with_attributes(item, options.attributes) for item_id, item in catalogue.items()
    }
    counts = Counter({"items": len(catalogue)})
    clock = Clock(options.time_format)
    questions = _questions(source, sequences, clock, counts, progress)
    return Collection(
        catalogue_of(catalogue, str(items)), questions, "fixed", counts, file=str(sequences)
    )


def _with_attributes(item: Item, names: tuple[str, ...] | None) -> Item:
    """Keep the chosen attributes (None keeps all); texts that say nothing are empty."""
    chosen = item.attributes if names is None else [n for n in names if n in item.attributes]
    return Item(item.item_id, {name: meant(item.attributes[name]) for name in chosen})


def _questions(
    source: Source, member: Member, clock: Clock, counts: Counter[str], progress: Progress
) -> Iterator[Question]:
    seen: set[str] = set()
    with source.reading(member) as path, progress.task("reading sequences") as task:
        faults = FaultList(path)
        for line, sequence in iter_sequences(path):
            times, problem = _times(sequence, clock)
            if sequence.user_id in seen:
                problem = "stands twice", "write each user's items in one line"
            seen.add(sequence.user_id)
            task.advance()
            if problem:
                faults.add(line, f"user {sequence.user_id!r}: {problem[0]}", problem[1])
            elif sequence.items:
                yield _question(sequence, times, str(member), line)
            else:
                counts["sequences without items"] += 1
        faults.raise_if_any()
    counts["sequences"] = len(seen)
    clock.report(progress)


def _times(
    sequence: UserSequence, clock: Clock
) -> tuple[list[float] | None, tuple[str, str] | None]:
    """Return the seconds of a sequence, and what is wrong with them and its remedy."""
    written = sequence.timestamps
    if written is None:
        return None, None
    if len(written) != len(sequence.items):
        problem = (
            f"has {counted(len(sequence.items), 'item')} and {counted(len(written), 'timestamp')}"
        )
        return None, (problem, "write one for each")
    try:
        times = [clock.seconds(moment) for moment in written]
    except ValueError as error:
        return None, (f"timestamps: {error}", "write seconds, or dates like 2023-02-09")
    if any(a > b for a, b in pairwise(times)):
        return None, ("timestamps go back", "write the oldest item first")
    return times, None


def _question(sequence: UserSequence, times: list[float] | None, file: str, line: int) -> Question:
    *history, target = map(intern, sequence.items)
    offered = sequence.random_candidates
    return Question(
        sequence.user_id,
        history,
        [target],
        timestamp=times[-1] if times else None,
        times=times[:-1] if times else None,
        offered=list(map(intern, offered)) if offered else None,
        file=file,
        line=line,
    )


FORMAT = Format(
    "jsonl",
    "items.jsonl and sequences.jsonl",
    _find,
    Defaults(),
    _read,
    options=frozenset({"time_format"}),
)
