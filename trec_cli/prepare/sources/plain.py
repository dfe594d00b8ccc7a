"""Plain JSONL: ``items.jsonl`` and ``sequences.jsonl``, as `docs/prepare.md` shows them.

The last item of a sequence is the target.  ``random_candidates`` are negatives that the
collection fixes; the target is added to them.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from sys import intern

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList, iter_sequences, read_items
from trec_cli.core.progress import Progress
from trec_cli.core.records import Item, UserSequence
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import (
    Collection,
    Defaults,
    Question,
    ReadOptions,
    catalogue_of,
    check_attributes,
)
from trec_cli.prepare.formats import Files, Format


def _find(source: Source) -> Files | None:
    files = {name: source.find(rf"{name}\.jsonl") for name in ("items", "sequences")}
    for members in files.values():
        if len(members) > 1:
            raise InputError.of(
                source.path, f"holds several: {', '.join(map(str, members))}", "name one folder"
            )
    return files if all(files.values()) else None


def _read(source: Source, files: Files, options: ReadOptions, progress: Progress) -> Collection:
    (items,), (sequences,) = files["items"], files["sequences"]
    with source.reading(items) as path:
        catalogue = read_items(path)
    chosen = options.attributes
    if chosen is not None:
        check_attributes(chosen, dict.fromkeys(n for i in catalogue.values() for n in i.attributes))
        catalogue = {
            item_id: Item(item_id, {n: i.attributes[n] for n in chosen if n in i.attributes})
            for item_id, i in catalogue.items()
        }
    counts = Counter({"items": len(catalogue)})
    questions = _questions(source, sequences, counts, progress)
    return Collection(catalogue_of(catalogue, str(items)), questions, "fixed", counts)


def _questions(
    source: Source, member: Member, counts: Counter[str], progress: Progress
) -> Iterator[Question]:
    seen: set[str] = set()
    with source.reading(member) as path, progress.task("reading sequences") as task:
        faults = FaultList(path)
        for line, sequence in iter_sequences(path):
            problem = _problem(sequence, seen)
            seen.add(sequence.user_id)
            task.advance()
            if problem:
                faults.add(line, f"user {sequence.user_id!r}: {problem[0]}", problem[1])
            elif sequence.items:
                yield _question(sequence, str(member), line)
            else:
                counts["sequences without items"] += 1
        faults.raise_if_any()
    counts["sequences"] = len(seen)


def _problem(sequence: UserSequence, seen: set[str]) -> tuple[str, str] | None:
    if sequence.user_id in seen:
        return "stands twice", "write each user's items in one line"
    times = sequence.timestamps
    if times is None:
        return None
    if len(times) != len(sequence.items):
        return f"has {len(sequence.items)} items and {len(times)} timestamps", "write one for each"
    if any(a > b for a, b in pairwise(times)):
        return "timestamps go back", "write the oldest item first"
    return None


def _question(sequence: UserSequence, file: str, line: int) -> Question:
    *history, target = map(intern, sequence.items)
    times = sequence.timestamps
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


FORMAT = Format("jsonl", "items.jsonl and sequences.jsonl", _find, Defaults(), _read)
