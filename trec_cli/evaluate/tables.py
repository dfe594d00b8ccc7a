"""The result table for people: terminal, Markdown and LaTeX, all from `metrics.json`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from trec_cli.core.lineage import Link
from trec_cli.evaluate.metrics import headline
from trec_cli.evaluate.results import NO_USER, SIGNIFICANT, SMALL_SLICE, Summary, differs

CHANCE = "chance"
SMALL_MARK = "!"
"""Stands beside the users of a small slice."""
_NONE = "–"
_PADDING = 1
_SECOND = 2
"""Systems above which the second best is marked."""
_METRIC = 14
"""Columns that the names of metrics take, with the edges of the table."""
_LEAST, _FOLDED = 8, 16
"""Columns of a system at least (a starred value, an interval) and at most."""


@dataclass(frozen=True)
class Cell:
    """One number: its interval, its spread over seeds, its place, whether it differs."""

    value: float | None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    best: bool = False
    second: bool = False
    differs: bool = False

    @property
    def text(self) -> str:
        """The value to three decimals, starred where it differs from the reference."""
        return number(self.value) + ("*" if self.differs else "")

    @property
    def bounds(self) -> str:
        """The interval, or nothing."""
        return "" if self.low is None else f"[{number(self.low)}, {number(self.high)}]"

    @property
    def deviation(self) -> str:
        """The standard deviation between seeds, or nothing."""
        return "" if self.spread is None else f"±{number(self.spread)}"


@dataclass(frozen=True)
class TableRow:
    """A system (or chance) with its cells in the order of the metrics."""

    name: str
    cells: list[Cell]
    tie_rate: float | None


def number(value: float | None) -> str:
    """Write a number to three decimals; a dash where there is none."""
    return _NONE if value is None else f"{value:.3f}"


def metrics_of(summary: Summary) -> list[str]:
    """Name the metrics in the order of the tables."""
    return list(summary["chance"])


def rows_of(summary: Summary) -> list[TableRow]:
    """Return one row per system, then those of :func:`references_of`."""
    metrics, systems = metrics_of(summary), summary["systems"]
    ahead = {metric: _two_best(systems, metric) for metric in metrics}
    differing = {(c["system"], c["metric"]) for c in summary["comparisons"] if differs(c)}
    rows = []
    for name, entry in systems.items():
        cells = [
            Cell(
                entry[m]["value"],
                entry[m]["low"],
                entry[m]["high"],
                spread=entry[m].get("seed_sd"),
                best=len(systems) > 1 and entry[m]["value"] == ahead[m][0],
                second=len(systems) > _SECOND and entry[m]["value"] == ahead[m][1],
                differs=(name, m) in differing,
            )
            for m in metrics
        ]
        rows.append(TableRow(_called(name, entry), cells, entry["tie_rate"]))
    return [*rows, *references_of(summary)]


def _two_best(systems: Mapping[str, Any], metric: str) -> tuple[float, float | None]:
    """Return the highest value of a metric, and the next one."""
    values = sorted({entry[metric]["value"] or 0.0 for entry in systems.values()}, reverse=True)
    best, second = [*values, None, None][:2]
    return best or 0.0, second


def selected(summary: Summary, columns: Sequence[str] = (), *, intervals: bool = True) -> Summary:
    """Return a summary whose tables have only some metrics, in this order, or no intervals."""

    def entry(values: Any) -> Any:
        bounded = isinstance(values, Mapping) and "low" in values
        return {**values, "low": None, "high": None} if bounded and not intervals else values

    def entries(measured: Mapping[str, Any]) -> dict[str, Any]:
        return {name: entry(values) for name, values in measured.items()}

    chosen = {name: summary["chance"][name] for name in columns or summary["chance"]}
    systems = {name: entries(measured) for name, measured in summary["systems"].items()}
    audit = summary.get("audit")
    blind = {"audit": {**audit, "no_user": entries(audit["no_user"])}} if audit else {}
    return {**summary, "systems": systems, "chance": chosen, **blind}


def references_of(summary: Summary) -> list[TableRow]:
    """Return what needs no user: the model without one, where an audit was made, and chance."""
    metrics = metrics_of(summary)
    chance = TableRow(CHANCE, [Cell(summary["chance"][m]) for m in metrics], None)
    blind = summary.get("audit", {}).get("no_user", {})
    if not blind.keys() >= set(metrics):
        return [chance]
    cells = [Cell(blind[m]["value"], blind[m]["low"], blind[m]["high"]) for m in metrics]
    return [TableRow(NO_USER, cells, None), chance]


def _called(name: str, entry: Mapping[str, Any]) -> str:
    """Name a system with the number of its seeds, if it has several."""
    seeds = len(entry.get("seeds", ()))
    return f"{name} ({seeds} seeds)" if seeds > 1 else name


def notes_of(summary: Summary) -> list[str]:
    """Describe in words what the table shows."""
    examples = next(iter(summary["systems"].values()))["examples"]
    bounded = any(cell.low is not None for row in rows_of(summary) for cell in row.cells)
    intervals = "95 % intervals by bootstrap over users; " if bounded else ""
    notes = [
        f"{examples} examples of {summary['users']} users; {intervals}"
        "ties count at their expected value; chance is a random order."
    ]
    if protocol := summary.get("protocol"):
        notes.append(_protocol_note(protocol))
    if visible := _power_note(summary):
        notes.append(visible)
    if audit := summary.get("audit"):
        notes.append(_audit_note(audit))
    if any(len(entry.get("seeds", ())) > 1 for entry in summary["systems"].values()):
        notes.append(
            "Of a system with several seeds: the mean over them, its interval over users, "
            "and ± the standard deviation between seeds."
        )
    if any(c["p_holm"] is not None for c in summary["comparisons"]):
        reference = summary["comparisons"][0]["reference"]
        notes.append(
            f"* differs from {reference} (paired permutation test over users, "
            f"Holm-corrected over all tests, p < {SIGNIFICANT})."
        )
    return notes


def _protocol_note(protocol: Mapping[str, Any]) -> str:
    """Describe what was ranked."""
    if protocol["ranking"] == "catalogue":
        note = "Ranked among the whole catalogue; lists hold its best items."
    elif protocol.get("corrected"):
        note = (
            f"Estimated for all {protocol['catalogue']} items from ranks among "
            f"{protocol['mean_candidates']:.4g} (bias-variance estimator); may be negative."
        )
    else:
        how = f" ({protocol['candidates']})" if protocol["candidates"] else ""
        note = (
            f"Ranked among {protocol['mean_candidates']:.4g} candidates{how}, not the whole "
            "catalogue: which system is ahead may differ there."
        )
    if missed := protocol["positives_missed"]:
        note += f" {missed} of {protocol['positives']} positives are not listed: missed."
    return note


def _power_note(summary: Summary) -> str:
    """Describe which difference from the reference so many users can show."""
    found = [entry for entry in summary["comparisons"] if entry.get("detectable") is not None]
    if not found:
        return ""
    metric = headline([entry["metric"] for entry in found])
    least, *more = sorted({number(e["detectable"]) for e in found if e["metric"] == metric})
    span = f"{least} to {more[-1]} (by system)" if more else least
    return (
        f"With {summary['users']} users a difference from {found[0]['reference']} in {metric} is "
        f"likely to be seen (80 % power, one paired test at 5 %) from {span} on."
    )


def _audit_note(audit: Mapping[str, Any]) -> str:
    """Describe the model without user, and name the systems that are not better."""
    area = audit["no_user"]["auc"]
    cell = Cell(area["value"], area["low"], area["high"])
    found = f"{cell.text} {cell.bounds}".strip()
    note = f"{NO_USER}: a model that never sees the user, AUC {found}"
    strongest = next(iter(audit["signals"].items()), None)
    if strongest and (area["low"] or 0.0) > audit["level"]:
        note += f", above all by '{strongest[0]}' ({number(strongest[1])} alone)"
    compared = audit.get("differences", [])
    if compared:
        metric = headline([entry["metric"] for entry in compared])
        weak = [
            entry["system"]
            for entry in compared
            if entry["metric"] == metric and not (differs(entry) and entry["difference"] > 0)
        ]
        if weak:
            note += f"; not shown to be better by {metric}: {', '.join(weak)}"
    return note + "."


def terminal_table(summary: Summary) -> Table:
    """Draw the table for a terminal, systems as rows; the best value of each metric is bold."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("system", no_wrap=True)
    for metric in _measured(summary):
        table.add_column(metric.replace("@", "\n@").replace(" ", "\n"), justify="right")
    for row in rows_of(summary):
        table.add_row(escape(row.name), *_values(row))
    return _with_notes(table, summary)


def narrow_tables(summary: Summary, width: int) -> list[Table]:
    """Draw it for a terminal of ``width`` columns: systems as columns, over several tables.

    Chance and the model without user stand in each.  Long names go over several lines, so
    that none is cut.
    """
    references = references_of(summary)
    systems = rows_of(summary)[: -len(references)]
    wide = max([_LEAST, *(min(len(row.name), _FOLDED) for row in systems)]) + 2 * _PADDING
    fitting = max(1, (width - _METRIC) // wide - len(references))
    tables = []
    for start in range(0, len(systems), fitting):
        rows = [*systems[start : start + fitting], *references]
        table = Table(box=SIMPLE_HEAD, padding=(0, _PADDING))
        table.add_column("metric", no_wrap=True)
        for row in rows:
            table.add_column(escape(row.name), justify="right", overflow="fold", max_width=_FOLDED)
        for metric, *cells in zip(_measured(summary), *map(_values, rows), strict=True):
            table.add_row(metric, *cells)
        tables.append(table)
    return [*tables[:-1], _with_notes(tables[-1], summary)]


def _measured(summary: Summary) -> list[str]:
    return [*metrics_of(summary), "tie rate"]


def _values(row: TableRow) -> list[str]:
    return [*map(_drawn, row.cells), number(row.tie_rate)]


def _with_notes(table: Table, summary: Summary) -> Table:
    table.caption, table.caption_justify = escape("\n".join(notes_of(summary))), "left"
    return table


def _drawn(cell: Cell) -> str:
    style = "bold" if cell.best else "underline" if cell.second else ""
    lines = [f"[{style}]{cell.text}[/]" if style else cell.text]
    if cell.low is not None and cell.high is not None:
        lines.append(f"[dim]{_short(cell.low)}–{_short(cell.high)}[/]")
    if cell.spread is not None:
        lines.append(f"[dim]±{f'{cell.spread:.3f}'.removeprefix('0')}[/]")
    return "\n".join(lines)


def slices_table(summary: Summary, *, wide: bool = True) -> Table:
    """Draw one metric of every slice for a terminal: slices as rows, systems as columns.

    A narrow terminal gets a row for every slice and system.
    """
    metric = headline(metrics_of(summary))
    index = metrics_of(summary).index(metric)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title=f"{metric} by slice", title_justify="left")
    table.caption, table.caption_justify = escape(slices_note(summary["slices"])), "left"
    systems = [*map(escape, summary["systems"]), CHANCE]
    for head in ("by", "slice"):
        table.add_column(head)
    for head in ("users", *(systems if wide else ("system", metric))):
        table.add_column(head, justify="right")
    for kind in slice_tables(summary):
        for count, part in enumerate(kind.parts):
            users = f"{part.users}{SMALL_MARK if part.small else ''}"
            lead = ["" if count else escape(kind.by), escape(part.label), users]
            cells = [_drawn(row.cells[index]) for row in part.rows]
            if wide:
                table.add_row(*lead, *cells)
                continue
            for name, cell in zip(systems, cells, strict=True):
                table.add_row(*lead, name, cell)
                lead = ["", "", ""]
        table.add_section()
    return table


@dataclass(frozen=True)
class SliceTable:
    """All numbers of the slices of one kind."""

    by: str
    parts: list["SlicePart"]


@dataclass(frozen=True)
class SlicePart:
    """One slice: a row for every system and one for chance."""

    label: str
    users: int
    small: bool
    rows: list[TableRow]


def slice_kinds(summary: Summary) -> dict[str, list[dict[str, Any]]]:
    """Group the entries of slices by what they slice by."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for entry in summary.get("slices", ()):
        kinds.setdefault(entry["by"], []).append(entry)
    return kinds


def slice_tables(summary: Summary) -> list[SliceTable]:
    """Return one table for each way of slicing."""
    return [
        SliceTable(by, [_part(entry) for entry in entries])
        for by, entries in slice_kinds(summary).items()
    ]


def _part(entry: Mapping[str, Any]) -> SlicePart:
    rows = [
        TableRow(name, [Cell(e["value"], e["low"], e["high"]) for e in metrics.values()], None)
        for name, metrics in entry["systems"].items()
    ]
    luck = TableRow(CHANCE, [Cell(value) for value in entry["chance"].values()], None)
    return SlicePart(entry["slice"], entry["users"], entry["small"], [*rows, luck])


def slices_note(entries: Sequence[Mapping[str, Any]]) -> str:
    """Describe how to read slices."""
    note = "95 % intervals by bootstrap over the users of a slice."
    if any(entry["small"] for entry in entries):
        note += f" {SMALL_MARK} fewer than {SMALL_SLICE} users: read with care."
    return note


def beyond_table(summary: Summary) -> Table:
    """Draw what the lists hold: coverage, Gini index, novelty, diversity."""
    entries: Mapping[str, Mapping[str, float | None]] = summary["beyond"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title="Beyond accuracy", title_justify="left")
    table.add_column("system", no_wrap=True)
    for name in next(iter(entries.values())):
        table.add_column(name.replace("@", "\n@"), justify="right")
    for system, figures in entries.items():
        table.add_row(escape(system), *map(number, figures.values()))
    return table


def links_table(links: Sequence[Link]) -> Table:
    """Draw what ``trec eval --verify`` has looked at: file, command, state."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for head in ("file", "made by", "state"):
        table.add_column(head, overflow="fold")
    for link in links:
        tint = "red" if link.problems else "green" if link.made_by else "dim"
        made_by = f"trec {link.made_by}" if link.made_by else _NONE
        table.add_row(escape(str(link.path)), made_by, f"[{tint}]{escape(link.state)}[/]")
    return table


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
        [name(row.name), *map(cell, row.cells), name(number(row.tie_rate))]
        for row in rows_of(summary)
    ]
    return [head, *body]


def markdown(summary: Summary) -> str:
    """Write the table as GitHub Markdown; the best of each column is bold, the second italic."""

    def plain(text: str) -> str:
        return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#" else c for c in text)

    def cell(c: Cell) -> str:
        mark = "**" if c.best else "_" if c.second else ""
        value = f"{mark}{number(c.value)}{mark}"
        return " ".join(filter(None, [value + ("\\*" if c.differs else ""), c.bounds, c.deviation]))

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
    "±": r"$\pm$",
}


def latex(summary: Summary) -> str:
    """Write the table as LaTeX for ``booktabs``; the best is bold, the second underlined."""

    def plain(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in text)

    def cell(c: Cell) -> str:
        style = r"\textbf" if c.best else r"\underline" if c.second else ""
        value = f"{style}{{{number(c.value)}}}" if style else plain(number(c.value))
        star = r"\rlap{$^{*}$}" if c.differs else ""
        beside = f"{c.bounds} {c.deviation}".strip()
        return " ".join(filter(None, [value + star, beside and rf"{{\tiny {plain(beside)}}}"]))

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
