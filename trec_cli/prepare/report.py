"""Counts of everything kept and dropped, and why: for the table, the manifest and --json."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from trec_cli.core.records import ANSWERED, PREDICT, Example, Split
from trec_cli.core.text import counted
from trec_cli.prepare.collection import Catalogue, Question

_NOTICEABLE = 0.01
WARN_SHARE = 0.05
ALARM_SHARE = 0.5


@dataclass
class Share:
    """How many of all there are."""

    part: int = 0
    total: int = 0

    def add(self, part: int, total: int) -> None:
        """Add counts."""
        self.part += part
        self.total += total

    @property
    def value(self) -> float:
        """The share, 0 where there is nothing."""
        return self.part / self.total if self.total else 0.0


@dataclass
class SplitCounts:
    """Sums over the examples of a split; popularity is counted in training histories."""

    examples: int = 0
    users: int = 0
    history: int = 0
    shortened: int = 0
    candidates: int = 0
    positives: int = 0
    source_negatives: int = 0
    source_left_out: int = 0
    too_few_negatives: int = 0
    seen_before: int = 0
    never_trained: int = 0
    positive_popularity: int = 0
    negative_popularity: int = 0
    missed: int = 0
    candidates_unknown: int = 0
    _last: str = ""

    def add(self, example: Example, question: Question, popularity: Mapping[str, int]) -> None:
        """Count one example, as written and as it was before candidates were chosen.

        The examples of a user come one after the other.
        """
        self.examples += 1
        self.users += example.user_id != self._last
        self._last = example.user_id
        self.history += len(example.history)
        self.shortened += len(example.history) < len(question.history)
        self.candidates += len(example.candidates)
        self.positives += len(example.positives)
        self.source_negatives += question.offered is not None
        counts = [popularity.get(item, 0) for item in example.positives]
        self.seen_before += len(set(example.positives) & set(question.history))
        self.never_trained += counts.count(0)
        self.positive_popularity += sum(counts)
        everything = sum(popularity.get(item, 0) for item in example.candidates)
        self.negative_popularity += everything - sum(counts)

    def as_dict(self) -> dict[str, Any]:
        """Return counts and means."""
        negatives = self.candidates - self.positives
        return {
            "examples": self.examples,
            "users": self.users,
            "mean_history": _mean(self.history, self.examples),
            "mean_candidates": _mean(self.candidates, self.examples),
            "mean_positives": _mean(self.positives, self.examples),
            "histories_shortened": self.shortened,
            "negatives_from_source": self.source_negatives,
            "source_negatives_left_out": self.source_left_out,
            "too_few_negatives": self.too_few_negatives,
            "positives_in_history": self.seen_before,
            "share_of_positives_in_history": _mean(self.seen_before, self.positives),
            "positives_not_in_train_histories": self.never_trained,
            "mean_popularity_of_positives": _mean(self.positive_popularity, self.positives),
            "mean_popularity_of_negatives": _mean(self.negative_popularity, negatives),
            "positives_missed": self.missed,
            "candidates_without_text": self.candidates_unknown,
            "recall_of_candidates": _mean(self.positives, self.positives + self.missed),
        }


def _mean(total: float, number: int) -> float:
    return round(total / number, 3) if number else 0.0


@dataclass
class Report:
    """All counts of one run.

    Attributes:
        read: what the reader saw and left out.
        unknown: share of items without text, by role: history items, targets, candidates.
        dropped: examples that were left out, by reason.
        left_out: events and right answers that filters took out of questions, by filter.
        ties: targets at the same time as the event before, of those with times.
        later: by split, the share of pairs of its question and an answer of split train in
            which the answer is later; empty without times.
        splits: counts of what was written.
        items: items written, and of these, items without text (policy ``keep``).
        choices: what ``auto`` came to.
        negatives_outside: drawn past the population, which had too few.
        negatives_other_folds: of split train, drawn from answers of other folds of users.
        empty_by_choice: splits that the user wants empty.
    """

    read: Counter[str] = field(default_factory=Counter)
    unknown: defaultdict[str, Share] = field(default_factory=lambda: defaultdict(Share))
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    ties: Share = field(default_factory=Share)
    later: dict[Split, float] = field(default_factory=dict)
    splits: dict[Split, SplitCounts] = field(
        default_factory=lambda: {split: SplitCounts() for split in ANSWERED}
    )
    items: Share = field(default_factory=Share)
    choices: dict[str, str] = field(default_factory=dict)
    negatives_outside: int = 0
    negatives_other_folds: int = 0
    empty_by_choice: frozenset[Split] = frozenset()

    def counts_of(self, split: Split) -> SplitCounts:
        """Return the counts of a split; ``predict`` is there once it has an example."""
        return self.splits.setdefault(split, SplitCounts())

    def note_order(self, times: Mapping[Split, Sequence[float]]) -> None:
        """Count how much of what trains is later than what is asked, by the times of questions."""
        trained = np.sort(np.asarray(times.get("train", ()), dtype=np.float64))
        for split in ("valid", "test"):
            if len(trained) and len(times.get(split, ())):
                until = np.searchsorted(trained, np.asarray(times[split]), side="right")
                self.later[split] = round(1 - float(np.mean(until)) / len(trained), 4)

    @property
    def examples(self) -> int:
        """How many examples were written."""
        return sum(split.examples for split in self.splits.values())

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "choices": self.choices,
            "read": dict(self.read),
            "without_text": {
                role: {"items": s.part, "of": s.total, "share": round(s.value, 4)}
                for role, s in self.unknown.items()
            },
            "left_out": dict(self.left_out),
            "ties": {"targets": self.ties.part, "of": self.ties.total},
            "dropped": dict(self.dropped),
            "splits": {split: counts.as_dict() for split, counts in self.splits.items()},
            "items": {"written": self.items.total, "without_text": self.items.part},
            "negatives_outside_population": self.negatives_outside,
            "negatives_of_other_folds": self.negatives_other_folds,
            "training_answers_later": dict(self.later),
        }

    def _repeated(self) -> Share:
        """Return how many right answers stand in the history."""
        counts = self.splits.values()
        return Share(sum(c.seen_before for c in counts), sum(c.positives for c in counts))

    def _outside(self) -> Share:
        """Return how many negatives come from outside the population."""
        counts = self.splits.values()
        return Share(self.negatives_outside, sum(c.candidates - c.positives for c in counts))

    def alarms(self) -> list[str]:
        """Return where more than half of all items have no text."""
        return [_without_text(p, s) for p, s in self.unknown.items() if s.value > ALARM_SHARE]

    def warnings(self) -> list[str]:
        """Return what the user should look at before using the result."""
        said = [
            _without_text(role, share)
            for role, share in self.unknown.items()
            if WARN_SHARE < share.value <= ALARM_SHARE
        ]
        if self.choices.get("population") == "catalogue":
            said.append(
                "negatives come from the whole catalogue (--population catalogue), right answers "
                "only from what was to be had then: the difference may tell them apart without "
                "the user"
            )
        repeated, outside = self._repeated(), self._outside()
        if repeated.value > _NOTICEABLE:
            said.append(
                f"{repeated.part:,} of {repeated.total:,} right answers ({repeated.value:.1%}) "
                "stand in the history, where a negative never does; --repeats drop leaves them out"
            )
        if outside.value > _NOTICEABLE:
            said.append(
                f"{outside.value:.1%} of the negatives were drawn from outside the population "
                f"({self.choices['population']}), which had too few"
            )
        train = self.splits["train"]
        folds = Share(self.negatives_other_folds, train.candidates - train.positives)
        if folds.value > _NOTICEABLE:
            said.append(
                f"split train: {folds.value:.1%} of the negatives are right answers of users in "
                "other folds, since the own fold has too few: a model learns that what nobody "
                "else has is right, which holds in train alone (--negatives uniform, or more users)"
            )
        for split, counts in self.splits.items():
            if split in self.empty_by_choice:
                continue
            if not counts.examples:
                said.append(f"no example is in split {split}")
            elif 0 < counts.source_negatives < counts.examples and split != "train":
                said.append(
                    f"split {split}: {counts.source_negatives:,} of {counts.examples:,} examples "
                    "have the source's candidates and the others drawn ones; figures over both "
                    "mix two tasks (--split fixed, or --negatives uniform, keeps them apart)"
                )
            if counts.too_few_negatives:
                said.append(
                    f"split {split}: "
                    f"{counted(counts.too_few_negatives, 'example has', 'examples have')} fewer "
                    "negatives than asked for, because there are no more"
                )
        return said


def _without_text(role: str, share: Share) -> str:
    return (
        f"{share.value:.1%} of the {role} have no text "
        f"({share.part:,} of {share.total:,}); see --unknown"
    )


_SHOWN = 5
_ROWS = {
    "examples": "examples",
    "users": "users",
    "mean_history": "mean history, items",
    "histories_shortened": "histories shortened",
    "mean_candidates": "mean candidates",
    "mean_positives": "mean positives",
    "negatives_from_source": "examples with the source's negatives",
    "source_negatives_left_out": "its negatives left out: in the history, or twice",
    "positives_in_history": "positives that occur in the history",
    "share_of_positives_in_history": "their share; a negative never does",
    "positives_not_in_train_histories": "positives in no training history",
    "mean_popularity_of_positives": "mean popularity of positives",
    "mean_popularity_of_negatives": "mean popularity of negatives",
}
_OF_CANDIDATES = {
    "recall_of_candidates": "right answers among the candidates, share",
    "positives_missed": "right answers missed",
    "candidates_without_text": "candidates without text, left out",
}
"""Rows of candidates from a file or a retrieval."""

_SELDOM = ("negatives_from_source", "source_negatives_left_out")
"""Rows that are left out where every count is 0."""

_POPULARITY = "; popularity is the number of times an item stands in a training history"

_OF_PREDICT = ("examples", "users", "mean_history", "histories_shortened", "mean_candidates")
"""The rows that say something of questions without an answer."""


def report_tables(report: Report) -> Iterator[Table]:
    """Yield the table of what was read and dropped, then the one of the splits."""
    yield _kept_and_dropped(report)
    yield _splits(report)


def example_lines(example: Example, catalogue: Catalogue) -> list[str]:
    """Write an example for people: its last history items and first candidates as texts."""
    history, candidates = example.history[-_SHOWN:], example.candidates[:_SHOWN]
    wanted = sorted({*history, *candidates, *example.positives} & catalogue.ids)
    texts = {item.item_id: item.text() for item in catalogue.fetch(wanted)}
    lines = [
        f"the first example, {example.example_id} ({example.split}): "
        f"{counted(len(example.history), 'history item')}, "
        f"{counted(len(example.candidates), 'candidate')}"
    ]
    for what, ids in (
        ("history", history),
        ("positive", example.positives),
        ("candidate", candidates),
    ):
        lines += [f"  {what:<9}  {texts.get(item, '(no text)')}" for item in ids]
    return lines


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _kept_and_dropped(report: Report) -> Table:
    table = Table("", "number", title="Read, dropped and kept")
    table.columns[1].justify = "right"
    for what, number in report.read.items():
        table.add_row(what, _number(number))
    table.add_section()
    for role, share in report.unknown.items():
        if share.total:
            style = "red" if share.value > ALARM_SHARE else "yellow"
            table.add_row(
                f"{role} without text, of {share.total:,} ({share.value:.1%})",
                _number(share.part),
                style=style if share.value > WARN_SHARE else None,
            )
    table.add_section()
    if report.ties.part:
        table.add_row(
            f"targets at the time of the item before, of {report.ties.total:,} "
            f"({report.ties.value:.1%})",
            _number(report.ties.part),
        )
    if report.negatives_outside:
        table.add_row("negatives from outside the population", _number(report.negatives_outside))
    for reason, number in report.left_out.items():
        table.add_row(f"left out: {reason}", _number(number))
    for reason, number in report.dropped.items():
        table.add_row(f"dropped: {reason}", _number(number))
    table.add_section()
    table.add_row("examples kept", _number(report.examples), style="bold")
    table.add_row("items written", _number(report.items.total), style="bold")
    return table


def _splits(report: Report) -> Table:
    """Show the splits that hold something or should, and the rows that say something of them."""
    shown = {
        split: counts.as_dict()
        for split, counts in report.splits.items()
        if counts.examples or split not in report.empty_by_choice
    }
    choices = ", ".join(f"{name}: {choice}" for name, choice in report.choices.items())
    answered = shown.keys() != {PREDICT}
    table = Table("", *shown, title="Splits", caption=choices + (_POPULARITY if answered else ""))
    for column in table.columns[1:]:
        column.justify = "right"
    rows = _ROWS | (_OF_CANDIDATES if "candidates" in report.choices else {})
    for key, words in rows.items():
        cells = [_cell(split, key, value[key]) for split, value in shown.items()]
        if any(cells) and not (key in _SELDOM and not any(v[key] for v in shown.values())):
            table.add_row(words, *cells)
    if answered:
        table.add_row("training answers later than the question", *_later(report, shown))
    return table


def _later(report: Report, shown: Iterable[Split]) -> Iterator[str]:
    """Write how much of what trains is later than the questions of a split."""
    for split in shown:
        if split in ("train", PREDICT):
            yield ""
        elif split in report.later:
            yield f"{report.later[split]:.1%}"
        else:
            yield "unknown"


def _cell(split: Split, key: str, value: float) -> str:
    """Write a count; a question without an answer has some alone."""
    return "" if split == PREDICT and key not in _OF_PREDICT else _number(value)
