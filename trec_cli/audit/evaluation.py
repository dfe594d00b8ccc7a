"""The audit of a run folder: of what was prepared, and of what systems have answered."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from rich.table import Table

from trec_cli.audit.known import known_of
from trec_cli.audit.run import Audit, audit_examples
from trec_cli.core.jsonl import read_items, read_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Split
from trec_cli.evaluate.metrics import Floats, Pools
from trec_cli.evaluate.results import Blind
from trec_cli.evaluate.scores import System
from trec_cli.evaluate.sources import Sources


class _Line(Example, frozen=True, kw_only=True):
    """An example as people may write it: what is not there cannot be audited."""

    example_id: str = ""
    history: list[str] = msgspec.field(default_factory=list)
    candidates: list[str] = msgspec.field(default_factory=list)
    positives: list[str] = msgspec.field(default_factory=list)


_PREPARED = 200_000
"""Examples above which `trec prepare` leaves the audit to `trec eval`: it would take minutes."""
_SHOWN = 6


def audit_prepared(items: Path, examples: Path, number: int, seed: int) -> Audit | None:
    """Audit the examples that were just written: split test, or valid where there is no test.

    Args:
        items, examples: the files.
        number: of examples.
        seed: of the audit.

    Returns:
        None where there are too few to learn anything, or too many to do it in passing.
    """
    if number > _PREPARED:
        return None
    catalogue, asked = read_items(items), list(_read(examples))
    splits: tuple[Split, ...] = ("test", "valid")
    found = (audit_examples(catalogue, asked, split, seed) for split in splits)
    return next(filter(None, found), None)


def audit_table(audit: Audit) -> Table:
    """Draw what an audit found: the model without user, and the strongest signals alone."""
    table = Table("", "AUC", title=f"Without the user (split {audit.split}; chance is 0.5)")
    table.columns[1].justify = "right"
    style = "red" if audit.is_alarming else None
    table.add_row("a model that never sees the user", str(audit.no_user), style=style)
    if audit.train:
        style = "yellow" if audit.differs else None
        table.add_row("such a model in split train, fold by fold", str(audit.train), style=style)
    table.add_section()
    for name, value in [*audit.signals.items()][:_SHOWN]:
        table.add_row(f"{name}, alone", f"{value:.3f}")
    return table


def _read(path: Path) -> Iterator[Example]:
    """Yield every example of a file."""
    for _, line in read_lines(path, msgspec.json.Decoder(_Line).decode):
        yield msgspec.structs.replace(line, example_id=line.example_id or line.user_id)


def audit_systems(
    sources: Sources, system: System, split: Split, seed: int, progress: Progress
) -> Blind | None:
    """Audit the examples of a run, for the systems that have answered them.

    Args:
        sources: where examples and items are.
        system: one of the aligned systems.
        split: that they have answered.
        seed: of the audit.
        progress: is told what is done.

    Returns:
        None without examples, or where there are too few to learn anything.
    """
    if sources.examples is None:
        return None
    progress.info("audit: how well is the right answer told without the user?")
    items = read_items(sources.items) if sources.items else {}
    answered = _Answered(sources.examples, system, split)
    known = known_of(sources, items)
    audit = audit_examples(items, answered, split, seed, without_text=True, known=known)
    if audit is None:
        return None
    progress.info(audit.sentence())
    pools = answered.pools(audit)
    return Blind(audit.as_dict(), audit.warnings(), pools)


@dataclass
class _Answered:
    """Reads examples, and notes the lists of those that a system has answered.

    Attributes:
        widths: number of candidates, by the example's index in the system.
        positive_at: index in the list of candidates of each positive, -1 for one that is
            not there, by the example's index.
    """

    path: Path
    system: System
    split: Split
    widths: dict[int, int] = field(default_factory=dict)
    positive_at: dict[int, "array[int]"] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Example]:
        """Yield every example."""
        for example in _read(self.path):
            if example.split == self.split:
                self._note(example)
            yield example

    def _note(self, example: Example) -> None:
        """Note the list of an example that was answered as it stands here."""
        index = self.system.examples.get(example.example_id)
        right = example.right
        if index is None or not self.system.has_candidates(index, example.candidates):
            return
        if self.system.has_positives(index, right):
            where = {item: at for at, item in enumerate(example.candidates)}
            self.widths[index] = len(where)
            self.positive_at[index] = array("q", [where.get(item, -1) for item in right])

    def pools(self, audit: Audit) -> Pools | None:
        """Return the model's scores in the order of the system; None if an example lacks any.

        An example that cannot be audited (all its candidates are right, or none) has equal
        scores.
        """
        number = len(self.system.users)
        if len(self.widths) < number:
            return None
        known = dict(zip(audit.examples, audit.scores, strict=True))
        scores: list[Floats] = []
        positive_at, start = list[int](), 0
        for index, example in enumerate(self.system.examples):
            width = self.widths[index]
            scores.append(known.get(example, np.zeros(width)))
            at = self.positive_at[index]
            positive_at += [start + one if one >= 0 else -1 - index for one in at]
            start += width
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in scores])])
        at_all = np.array(positive_at, dtype=np.int64)
        catalogue = self.system.catalogue if self.system.catalogue.any() else None
        return Pools(np.concatenate(scores), offsets, at_all, catalogue)
