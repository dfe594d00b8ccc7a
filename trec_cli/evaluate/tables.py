"""The result table as rows and notes, and on a terminal; all from `metrics.json`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from trec_cli.core.lineage import Link
from trec_cli.core.text import counted
from trec_cli.evaluate.metrics import headline
from trec_cli.evaluate.results import (
    NO_USER,
    SIGNIFICANT,
    SMALL_SLICE,
    Summary,
    differs,
    sees_no_user,
)

CHANCE = "chance"
TIE_RATE = "tie rate"
"""The column beside the metrics."""
SMALL_MARK = "!"
"""Stands beside the users of a small slice."""
_NONE = "–"
_PADDING = 1
_NAMED = 5
"""Systems that a note names; of more, those of the shorter side are named."""
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
    """A system (or chance) with its cells in the order of the metrics.

    Attributes:
        name: on one line.
        cells: its numbers.
        tie_rate: share of examples with a tie that matters; None for what is no system.
        is_reference: whether it stands below the systems, because it sees no user.
    """

    name: str
    cells: list[Cell]
    tie_rate: float | None
    is_reference: bool = False


def number(value: float | None) -> str:
    """Write a number to three decimals; a dash where there is none."""
    return _NONE if value is None else f"{value:.3f}"


def metrics_of(summary: Summary) -> list[str]:
    """Name the metrics in the order of the tables."""
    return list(summary["chance"])


def columns_of(summary: Summary) -> list[str]:
    """Name the columns: the metrics, and the tie rate unless it was left out."""
    return [*metrics_of(summary), *([TIE_RATE] if summary.get(TIE_RATE, True) else [])]


def rows_of(summary: Summary) -> list[TableRow]:
    """Return one row per system, then those of :func:`references_of`."""
    metrics = metrics_of(summary)
    systems = {n: entry for n, entry in summary["systems"].items() if not sees_no_user(n)}
    ahead = {metric: _two_best(systems, metric) for metric in metrics}
    differing = {(c["system"], c["metric"]) for c in summary["comparisons"] if differs(c)}
    rows = []
    for name, entry in systems.items():
        cells = [
            replace(
                _cell(entry[m]),
                best=len(systems) > 1 and _as_shown(entry[m]) in ahead[m][:1],
                second=len(systems) > _SECOND and _as_shown(entry[m]) in ahead[m][1:],
                differs=(name, m) in differing,
            )
            for m in metrics
        ]
        rows.append(TableRow(_called(name, entry), cells, entry["tie_rate"]))
    return [*rows, *references_of(summary)]


def _cell(entry: Mapping[str, float | None]) -> Cell:
    return Cell(entry["value"], entry["low"], entry["high"], spread=entry.get("seed_sd"))


def _two_best(systems: Mapping[str, Any], metric: str) -> list[float]:
    """Return the highest value of a metric and the next one, as far as there are any.

    Values count as they are shown, so that of two equal numbers in a table none stands alone.
    """
    values = map(_as_shown, (entry[metric] for entry in systems.values()))
    return sorted({value for value in values if value is not None}, reverse=True)[:_SECOND]


def _as_shown(entry: Mapping[str, Any]) -> float | None:
    return None if entry["value"] is None else round(entry["value"], 3)


def selected(summary: Summary, columns: Sequence[str] = (), *, intervals: bool = True) -> Summary:
    """Return a summary whose tables have only some columns, in this order, or no intervals.

    The tie rate is a column, too, and stands last.
    """

    def entry(values: Any) -> Any:
        bounded = isinstance(values, Mapping) and "low" in values
        return {**values, "low": None, "high": None} if bounded and not intervals else values

    def entries(measured: Mapping[str, Any]) -> dict[str, Any]:
        return {name: entry(values) for name, values in measured.items()}

    named = [name for name in columns if name != TIE_RATE] or summary["chance"]
    chosen = {name: summary["chance"][name] for name in named}
    systems = {name: entries(measured) for name, measured in summary["systems"].items()}
    audit = summary.get("audit")
    blind = {"audit": {**audit, "no_user": entries(audit["no_user"])}} if audit else {}
    rate = {TIE_RATE: TIE_RATE in columns} if columns else {}
    return {**summary, "systems": systems, "chance": chosen, **blind, **rate}


def references_of(summary: Summary) -> list[TableRow]:
    """Return what needs no user.

    These are systems that were asked without their users, the audit's model where one was
    made, and chance.
    """
    metrics = metrics_of(summary)
    rows = [
        TableRow(_called(name, entry), [_cell(entry[m]) for m in metrics], entry["tie_rate"], True)
        for name, entry in summary["systems"].items()
        if sees_no_user(name)
    ]
    blind = summary.get("audit", {}).get("no_user", {})
    if blind.keys() >= set(metrics):
        rows.append(TableRow(NO_USER, [_cell(blind[m]) for m in metrics], None, True))
    chance = [Cell(summary["chance"][m]) for m in metrics]
    return [*rows, TableRow(CHANCE, chance, None, True)]


def _called(name: str, entry: Mapping[str, Any]) -> str:
    """Name a system on one line, with the number of its seeds if it has several."""
    seeds = len(entry.get("seeds", ()))
    return on_one_line(f"{name} ({seeds} seeds)" if seeds > 1 else name)


def on_one_line(name: str) -> str:
    """Write line breaks, tabs and what no screen shows as blanks."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def notes_of(summary: Summary) -> list[str]:
    """Describe in words what the table shows; each note is one line."""
    return [on_one_line(note) for note in _notes(summary)]


def _notes(summary: Summary) -> Iterator[str]:
    examples = next(iter(summary["systems"].values()))["examples"]
    bounded = any(cell.low is not None for row in rows_of(summary) for cell in row.cells)
    intervals = " 95 % intervals: bootstrap over users." if bounded else ""
    asked = f"{counted(examples, 'question')} to {counted(summary['users'], 'user')}"
    yield f"{asked}.{intervals} Ties count at their expected value; chance is a random order."
    if protocol := summary.get("protocol"):
        yield _protocol_note(protocol)
    yield from _power_note(summary)
    if audit := summary.get("audit"):
        yield _audit_note(audit)
    yield from _users_note(summary)
    if any(len(entry.get("seeds", ())) > 1 for entry in summary["systems"].values()):
        yield (
            "With several seeds: the mean over seeds, its interval over users, and ± the "
            "standard deviation between seeds."
        )
    if any(c["p_holm"] is not None for c in summary["comparisons"]):
        reference = summary["comparisons"][0]["reference"]
        yield (
            f"* differs from {reference}: paired permutation test over users, p < {SIGNIFICANT} "
            "after Holm's correction over all tests."
        )


def _protocol_note(protocol: Mapping[str, Any]) -> str:
    """Describe what was ranked."""
    if protocol["ranking"] == "catalogue":
        note = "Ranked among the whole catalogue; the lists hold its best items."
    elif protocol.get("corrected"):
        note = (
            f"Estimated for all {counted(protocol['catalogue'], 'item')} from ranks among "
            f"{protocol['mean_candidates']:.4g} (bias-variance estimator); may be negative."
        )
    else:
        how = f" ({protocol['candidates']})" if protocol["candidates"] else ""
        note = (
            f"Ranked among {protocol['mean_candidates']:.4g} candidates{how}, not the whole "
            "catalogue, where another system may be ahead."
        )
    if missed := protocol["positives_missed"]:
        of = f"of {protocol['positives']:,} right items"
        those = counted(missed, f"{of} is in no list and counts", f"{of} are in no list and count")
        note += f" {those} as missed."
    return note


def _power_note(summary: Summary) -> Iterator[str]:
    """Describe how large a difference from the reference must be to show with so many users."""
    found = [entry for entry in summary["comparisons"] if entry.get("detectable") is not None]
    if not found:
        return
    metric = headline([entry["metric"] for entry in found])
    least, *more = sorted({number(e["detectable"]) for e in found if e["metric"] == metric})
    span = f"{least} to {more[-1]}, depending on the system" if more else least
    yield (
        f"Power: with {counted(summary['users'], 'user')}, the smallest difference from "
        f"{found[0]['reference']} in {metric} that one paired test (5 %) finds four times out of "
        f"five is {span}."
    )


def _audit_note(audit: Mapping[str, Any]) -> str:
    """Describe the model without user, and name the systems that are not better."""
    area = audit["no_user"]["auc"]
    cell = Cell(area["value"], area["low"], area["high"])
    note = f"{NO_USER}: a model that never sees the user has AUC {cell.text} {cell.bounds}".strip()
    strongest = next(iter(audit["signals"].items()), None)
    if strongest and (area["low"] or 0.0) > audit["level"]:
        note += f", mostly from '{strongest[0]}' ({number(strongest[1])} alone)"
    train = audit.get("train")
    if train and train["differs"]:
        area = train["auc"]
        cell = Cell(area["value"], area["low"], area["high"])
        note += f"; in split train {cell.text} {cell.bounds}, which does not hold here"
    compared = [e for e in audit.get("differences", []) if not sees_no_user(e["system"])]
    if compared:
        metric = headline([entry["metric"] for entry in compared])
        weak = [
            entry["system"]
            for entry in compared
            if entry["metric"] == metric and not (differs(entry) and entry["difference"] > 0)
        ]
        better = [e["system"] for e in compared if e["metric"] == metric]
        better = [name for name in better if name not in weak]
        if weak and len(weak) <= max(len(better), _NAMED):
            note += f". Not significantly better than it in {metric}: {', '.join(weak)}"
        elif weak:
            told = f"only {', '.join(better)}" if better else "no system"
            note += f". Significantly better than it in {metric}: {told}"
    return note + "."


def _users_note(summary: Summary) -> Iterator[str]:
    """Describe what a system gains by seeing its users."""
    found = summary.get("users_add", ())
    if not found:
        return
    metric = headline([entry["metric"] for entry in found])
    gains = [
        f"{e['system']} {e['difference']:+.3f} [{_signed(e['low'])}, {_signed(e['high'])}]"
        for e in found
        if e["metric"] == metric and e["difference"] is not None
    ]
    yield (
        f"What seeing the user adds, in {metric} (the system less itself without summary and "
        f"history): {'; '.join(gains)}."
    )


def _signed(value: float | None) -> str:
    return _NONE if value is None else f"{value:+.3f}"


def terminal_table(summary: Summary) -> Table:
    """Draw the table for a terminal, systems as rows; the best value of each metric is bold."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("system", no_wrap=True)
    for metric in columns_of(summary):
        table.add_column(metric.replace("@", "\n@").replace(" ", "\n"), justify="right")
    for row in rows_of(summary):
        table.add_row(escape(row.name), *_values(row, summary))
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
        drawn = (_values(row, summary) for row in rows)
        for metric, *cells in zip(columns_of(summary), *drawn, strict=True):
            table.add_row(metric, *cells)
        tables.append(table)
    return [*tables[:-1], _with_notes(tables[-1], summary)]


def _values(row: TableRow, summary: Summary) -> list[str]:
    rate = [number(row.tie_rate)] if TIE_RATE in columns_of(summary) else []
    return [*map(_drawn, row.cells), *rate]


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
    systems = [*map(escape, map(on_one_line, summary["systems"])), CHANCE]
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
        table.add_row(escape(on_one_line(system)), *map(number, figures.values()))
    return table


def exposure_table(found: Mapping[str, Any]) -> Table:
    """Draw what policies would have earned, beside what the log has."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title="Reward per shown item (SNIPS)")
    table.title_justify = table.caption_justify = "left"
    table.add_column("policy", overflow="fold")
    heads = ("reward", "95 %", "difference", "events", "effective\nevents", "largest\nweight")
    for head in heads:
        table.add_column(head, justify="right")
    table.add_row("the log itself", number(found["mean_reward"]), "", "", f"{found['events']:,}")
    groups = found["groups"]
    for place, (name, entry) in enumerate(groups.items()):
        cells = _earned(entry)
        cells[2] = cells[2] if place else ""
        table.add_row(escape(on_one_line(f"group {name}")), *cells)
    for name, entry in found["policies"].items():
        table.add_row(escape(on_one_line(name)), *_earned(entry))
    beside = f", groups with group {on_one_line(next(iter(groups)))}" if groups else ""
    table.caption = escape(
        f"{counted(found['events'], 'event')} of {counted(found['users'], 'user')}; intervals by "
        f"bootstrap over users. Differences: policies with the log{beside}. Effective events: as "
        "many of equal weight would vary as much."
    )
    return table


def _earned(entry: Mapping[str, Any]) -> list[str]:
    if entry["value"] is None:
        return [_NONE, "", "", "0", _NONE, _NONE]
    gain = f"{_signed(entry['difference'])} [{_signed(entry['low_difference'])}, "
    return [
        number(entry["value"]),
        f"[{number(entry['low'])}, {number(entry['high'])}]",
        f"{gain}{_signed(entry['high_difference'])}]",
        f"{entry['events']:,}",
        f"{entry['effective']:,.0f}",
        f"{entry['largest']:.3g}",
    ]


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
