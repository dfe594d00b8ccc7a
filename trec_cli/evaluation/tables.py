"""The result table for people: terminal, Markdown and LaTeX, all from `metrics.json`."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from trec_cli.evaluation.results import SIGNIFICANT, Summary

CHANCE = "chance"
_NONE = "–"


@dataclass(frozen=True)
class Cell:
    """One number: its interval, whether it leads its column, whether it differs."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    differs: bool = False

    @property
    def text(self) -> str:
        """The value to three places, starred where it differs from the reference."""
        return number(self.value) + ("*" if self.differs else "")

    @property
    def bounds(self) -> str:
        """The interval, or nothing."""
        return "" if self.low is None else f"[{number(self.low)}, {number(self.high)}]"


@dataclass(frozen=True)
class Row:
    """A system (or chance) with its cells in the order of the metrics."""

    name: str
    cells: list[Cell]
    tie_rate: float | None


def number(value: float | None) -> str:
    """Write a number to three places; a dash where there is none."""
    return _NONE if value is None else f"{value:.3f}"


def metrics_of(summary: Summary) -> list[str]:
    """Name the metrics in the order of the tables."""
    return list(summary["chance"])


def rows_of(summary: Summary) -> list[Row]:
    """Give one row per system and a last one for chance."""
    metrics, systems = metrics_of(summary), summary["systems"]
    best = {m: max((s[m]["value"] or 0.0 for s in systems.values()), default=0.0) for m in metrics}
    differing = {
        (c["system"], c["metric"]) for c in summary["comparisons"] if c["p_holm"] < SIGNIFICANT
    }
    rows = []
    for name, entry in systems.items():
        cells = [
            Cell(
                **entry[m],
                best=len(systems) > 1 and entry[m]["value"] == best[m],
                differs=(name, m) in differing,
            )
            for m in metrics
        ]
        rows.append(Row(name, cells, entry["tie_rate"]))
    return [*rows, Row(CHANCE, [Cell(summary["chance"][m]) for m in metrics], None)]


def notes_of(summary: Summary) -> list[str]:
    """Say in words what the table shows."""
    examples = next(iter(summary["systems"].values()))["examples"]
    notes = [
        f"{examples} examples of {summary['users']} users; 95 % intervals by "
        "bootstrap over users; ties count at their expected value; chance is a random order."
    ]
    if summary["comparisons"]:
        reference = summary["comparisons"][0]["reference"]
        notes.append(
            f"* differs from {reference} (paired permutation test over users, "
            f"Holm-corrected over all tests, p < {SIGNIFICANT})."
        )
    return notes


def terminal_table(summary: Summary, *, wide: bool = True) -> Table:
    """Draw the table for a terminal; the best value of each metric is bold.

    A narrow terminal gets the metrics as rows and the systems as columns.
    """
    notes = escape("\n".join(notes_of(summary)))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), caption=notes, caption_justify="left")
    rows = rows_of(summary)
    names = [escape(row.name) for row in rows]
    cells = [[*map(_drawn, row.cells), number(row.tie_rate)] for row in rows]
    metrics = [*metrics_of(summary), "tie rate"]
    heads = [metric.replace("@", "\n@").replace(" ", "\n") for metric in metrics]
    table.add_column("system" if wide else "metric", no_wrap=True)
    for head in heads if wide else names:
        table.add_column(head, justify="right")
    lines = (
        zip(names, cells, strict=True)
        if wide
        else zip(metrics, map(list, zip(*cells, strict=True)), strict=True)
    )
    for name, line in lines:
        table.add_row(name, *line)
    return table


def _drawn(cell: Cell) -> str:
    value = f"[bold]{cell.text}[/]" if cell.best else cell.text
    if cell.low is None or cell.high is None:
        return value
    return f"{value}\n[dim]{_short(cell.low)}–{_short(cell.high)}[/]"


def _short(value: float) -> str:
    """Write .48 for 0.48, to keep the table narrow."""
    return f"{value:.2f}".removeprefix("0")


def _grid(
    summary: Summary,
    name: Callable[[str], str],
    cell: Callable[[Cell], str],
    header: Callable[[str], str],
) -> list[list[str]]:
    """Write all cells of the table, header first."""
    head = [header(title) for title in ["system", *metrics_of(summary), "tie rate"]]
    body = [
        [name(row.name), *map(cell, row.cells), number(row.tie_rate)] for row in rows_of(summary)
    ]
    return [head, *body]


def markdown(summary: Summary) -> str:
    """Write the table as GitHub Markdown; the best of each column is bold."""

    def plain(text: str) -> str:
        return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#" else c for c in text)

    def cell(c: Cell) -> str:
        value = f"**{number(c.value)}**" if c.best else number(c.value)
        return " ".join(filter(None, [value + ("\\*" if c.differs else ""), c.bounds]))

    head, *body = _grid(summary, plain, cell, plain)
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = ["| " + " | ".join(row) + " |" for row in [head, rule, *body]]
    return "\n".join([*lines, "", *map(plain, notes_of(summary)), ""])


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "–": "--",
}


def latex(summary: Summary) -> str:
    """Write the table as LaTeX for the ``booktabs`` package; the best is bold."""

    def plain(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in text)

    def cell(c: Cell) -> str:
        value = rf"\textbf{{{number(c.value)}}}" if c.best else plain(number(c.value))
        star = r"\rlap{$^{*}$}" if c.differs else ""
        return " ".join(filter(None, [value + star, c.bounds and rf"{{\tiny {c.bounds}}}"]))

    head, *body = _grid(summary, plain, cell, plain)
    rows = [" & ".join(row) + r" \\" for row in body]
    notes = [f"% {plain(note)}" for note in notes_of(summary)]
    return "\n".join(
        [
            *notes,
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )
