"""Candidates that are not drawn: from a file, or retrieved from the whole catalogue.

A right answer that is not among them is missed, in split test.  Nothing can be learnt from a
question whose answer is not there, so train and valid do without it.  Were the answer added,
"not retrieved" would be the surest sign of being right.  Both are counted.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

import msgspec

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList, read_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Identifier, Item
from trec_cli.core.seeds import generator
from trec_cli.prepare.report import SplitCounts
from trec_cli.retrieve.settings import RetrieveSettings

Lists = Sequence[Sequence[str] | None]
"""Candidates of each example, in their order; None where there are none for it."""


class _Line(msgspec.Struct):
    """One line of a file of candidates: for one example, or for all of a user."""

    candidates: list[Identifier]
    example_id: Identifier | None = None
    user_id: Identifier | None = None


def read_candidates(path: Path) -> dict[tuple[str, str], list[str]]:
    """Read a file of candidates, by ("example", id) or ("user", id).

    Raises:
        InputError: for broken lines, a line without id, or an id that stands twice.
    """
    found: dict[tuple[str, str], list[str]] = {}
    faults = FaultList(path)
    for line, record in read_lines(path, msgspec.json.Decoder(_Line).decode, faults=faults):
        if record.example_id is not None:
            key = ("example", record.example_id)
        elif record.user_id is not None:
            key = ("user", record.user_id)
        else:
            faults.add(line, "names neither example_id nor user_id", "write one of them")
            continue
        if key in found:
            faults.add(line, f"{key[0]} {key[1]!r} stands twice", "keep one of the lines")
        found[key] = record.candidates
    return found


def named_candidates(path: Path, examples: Sequence[Example]) -> Lists:
    """Look up the candidates of every example: its own, else those of its user.

    Raises:
        InputError: the file is broken, or has none of any example.
    """
    found = read_candidates(path)
    lists = [
        found.get(("example", example.example_id), found.get(("user", example.user_id)))
        for example in examples
    ]
    if not any(lists):
        raise InputError.of(
            path,
            "has candidates of no example",
            "example_id is USER, USER-predict and the like; user_id names all of a user",
        )
    return lists


def retrieved_candidates(
    items: Mapping[str, Item],
    examples: Sequence[Example],
    settings: RetrieveSettings,
    progress: Progress,
) -> Iterator[list[str]]:
    """Retrieve candidates of the whole catalogue for every example."""
    from trec_cli.retrieve.search import retrieved

    return retrieved(items, examples, settings, progress=progress)


def with_candidates(
    example: Example,
    candidates: Sequence[str],
    allowed: Set[str],
    counts: SplitCounts,
    seed: int,
) -> Example | None:
    """Return the example with its candidates, shuffled by (seed, user).

    None without a wrong one, and in train and valid without a right one.
    """
    known = set(candidates) & allowed
    counts.candidates_unknown += len(set(candidates)) - len(known)
    found = [item for item in example.positives if item in known]
    absent = [item for item in example.positives if item not in known]
    counts.missed += len(absent)
    learns = example.split in ("train", "valid")
    if len(known) == len(found) or (learns and not found):
        return None
    ordered = sorted(known)
    rng = generator(seed, example.user_id, "candidates", example.example_id)
    return msgspec.structs.replace(
        example,
        candidates=[ordered[i] for i in rng.permutation(len(ordered)).tolist()],
        positives=found,
        missed=None if learns else absent or None,
    )
