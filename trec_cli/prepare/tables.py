"""The report as tables for the terminal."""

from collections.abc import Iterator

from rich.table import Table

from trec_cli.core.records import PREDICT, Example
from trec_cli.prepare.collection import Catalogue
from trec_cli.prepare.report import ALARM_SHARE, WARN_SHARE, Report

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
    "positives_not_in_train_histories": "positives in no training history",
    "mean_popularity_of_positives": "mean popularity of positives",
    "mean_popularity_of_negatives": "mean popularity of negatives",
}
_OF_PREDICT = ("examples", "users", "mean_history", "histories_shortened", "mean_candidates")
"""The rows that say something of questions without an answer."""


def report_tables(report: Report) -> Iterator[Table]:
    """Give the table of what was read and dropped, then the one of the splits."""
    yield _kept_and_dropped(report)
    yield _splits(report)


def example_lines(example: Example, catalogue: Catalogue) -> list[str]:
    """Write an example for people: its last history items and first candidates as texts."""
    history, candidates = example.history[-_SHOWN:], example.candidates[:_SHOWN]
    wanted = sorted({*history, *candidates, *example.positives} & catalogue.ids)
    texts = {item.item_id: item.text() for item in catalogue.fetch(wanted)}
    lines = [
        f"the first example, {example.example_id} ({example.split}): "
        f"{len(example.history)} history items, {len(example.candidates)} candidates"
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
    for place, share in report.unknown.items():
        if share.total:
            style = "red" if share.value > ALARM_SHARE else "yellow"
            table.add_row(
                f"{place} without text, of {share.total:,} ({share.value:.1%})",
                _number(share.part),
                style=style if share.value > WARN_SHARE else None,
            )
    table.add_section()
    for reason, number in report.dropped.items():
        table.add_row(f"dropped: {reason}", _number(number))
    table.add_section()
    table.add_row("examples kept", _number(report.examples), style="bold")
    table.add_row("items written", _number(report.items.total), style="bold")
    return table


def _splits(report: Report) -> Table:
    choices = ", ".join(f"{name}: {choice}" for name, choice in report.choices.items())
    table = Table(
        "",
        *report.splits,
        title="Splits",
        caption=f"{choices}; popularity is the "
        "number of times an item stands in a training history",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    values = {split: counts.as_dict() for split, counts in report.splits.items()}
    for key, words in _ROWS.items():
        table.add_row(
            words,
            *(
                "" if split == PREDICT and key not in _OF_PREDICT else _number(value[key])
                for split, value in values.items()
            ),
        )
    return table
