"""The result table in files: Markdown, LaTeX for papers, CSV.

Names of systems come from file names and may hold anything; here they become one line that no
format reads as its own syntax.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from trec_cli.evaluate.results import Summary
from trec_cli.evaluate.tables import TIE_RATE, Cell, TableRow, columns_of, notes_of, number, rows_of


def markdown(summary: Summary) -> str:
    """Write the table as GitHub Markdown; the best of each column is bold, the second italic."""

    def cell(c: Cell) -> str:
        mark = "**" if c.best else "_" if c.second else ""
        value = f"{mark}{number(c.value)}{mark}"
        return " ".join(filter(None, [value + ("\\*" if c.differs else ""), c.bounds, c.deviation]))

    columns = columns_of(summary)
    head = ["system", *map(_in_markdown, columns)]
    rule = ["---", *["---:"] * len(columns)]
    body = [
        [_in_markdown(row.name), *_cells(row, columns, cell, number)] for row in rows_of(summary)
    ]
    lines = ["| " + " | ".join(row) + " |" for row in [head, rule, *body]]
    return "\n".join([*lines, "", *map(_in_markdown, notes_of(summary)), ""])


def _in_markdown(text: str) -> str:
    """Escape what GitHub's Markdown would read as markup, mathematics or HTML."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>|#~$&" else c for c in text)


def _cells(
    row: TableRow,
    columns: Sequence[str],
    cell: Callable[[Cell], str],
    rate: Callable[[float | None], str],
) -> list[str]:
    """Write the cells of a row; the tie rate stands last where it is shown."""
    cells = list(map(cell, row.cells))
    return [*cells, rate(row.tie_rate)] if TIE_RATE in columns else cells


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "[": "{[}",  # behind \\ a bracket would be a length
    "]": "{]}",
    "*": "{*}",  # behind \\ a star would be part of the command
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "±": r"$\pm$",
    "…": r"\dots{}",
}
_KNOWN_TO_LATEX = 0x0180
"""Characters below are letters of Western languages, which every LaTeX has."""


def latex(summary: Summary) -> str:
    """Write the table as LaTeX for ``booktabs``, narrow enough for a page.

    The best of each column is bold, the second underlined; intervals stand below the values.
    What needs no user comes last, behind a rule.
    """
    columns = columns_of(summary)
    rows = rows_of(summary)
    systems = [row for row in rows if not row.is_reference]
    references = [row for row in rows if row.is_reference]
    body = [line for row in systems for line in _in_lines(row, columns)]
    below = [line for row in references for line in _in_lines(row, columns)]
    return "\n".join(
        [
            *_preamble(summary, rows),
            r"{\small\setlength{\tabcolsep}{3.5pt}",
            rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
            r"\toprule",
            *_heads(columns),
            r"\midrule",
            *body,
            *([r"\midrule", *below] if below else []),
            r"\bottomrule",
            r"\end{tabular}}",
            "",
        ]
    )


def _preamble(summary: Summary, rows: Sequence[TableRow]) -> Iterator[str]:
    """Yield comments: what the table needs, and what it shows."""
    yield r"% \usepackage{booktabs}"
    if any(ord(c) >= _KNOWN_TO_LATEX for row in rows for c in row.name if c not in _LATEX):
        yield "% Names in other scripts need lualatex or xelatex and a font that has them."
    yield from (f"% {note}" for note in notes_of(summary))


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)


def _heads(columns: Sequence[str]) -> Iterator[str]:
    """Yield the head: cut-offs of one metric stand under its name."""
    groups = [(name, len(list(of))) for name, of in groupby(columns, lambda c: c.split("@")[0])]
    if all(width == 1 for _, width in groups):
        yield " & ".join(["system", *map(_in_latex, columns)]) + r" \\"
        return
    lower, rules, upper, start = ["system"], list[str](), [""], 2
    for name, width in groups:
        of_group = columns[start - 2 : start - 2 + width]
        if width == 1:
            upper.append("")
            lower.append(_in_latex(of_group[0]))
        else:
            upper.append(rf"\multicolumn{{{width}}}{{c}}{{{_in_latex(name)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
            lower += [f"@{column.split('@')[1]}" for column in of_group]
        start += width
    yield " & ".join(upper) + r" \\"
    yield "".join(rules)
    yield " & ".join(lower) + r" \\"


def _in_lines(row: TableRow, columns: Sequence[str]) -> Iterator[str]:
    """Yield a row of values and, where there are any, one of intervals and deviations."""
    name = _in_latex(row.name)
    yield " & ".join([name, *_cells(row, columns, _value, _decimals)]) + r" \\"
    below = _cells(row, columns, _below, lambda _: "")
    if any(below):
        yield " & ".join(["", *below]) + r" \\[2pt]"


def _decimals(value: float | None) -> str:
    """Write a number without the zero in front, as papers do."""
    return _in_latex(number(value)) if value is None else _shorter(number(value))


def _shorter(decimals: str) -> str:
    sign, digits = ("$-$", decimals[1:]) if decimals.startswith("-") else ("", decimals)
    return sign + (digits[1:] if digits.startswith("0.") else digits)


def _value(cell: Cell) -> str:
    style = r"\textbf" if cell.best else r"\underline" if cell.second else ""
    value = f"{style}{{{_decimals(cell.value)}}}" if style else _decimals(cell.value)
    return value + (r"\rlap{$^{*}$}" if cell.differs else "")


def _below(cell: Cell) -> str:
    parts = []
    if cell.low is not None and cell.high is not None:
        parts.append(f"{_decimals(cell.low)}--{_decimals(cell.high)}")
    if cell.spread is not None:
        parts.append(rf"$\pm${_decimals(cell.spread)}")
    return rf"{{\tiny {' '.join(parts)}}}" if parts else ""


def as_csv(summary: Summary) -> str:
    """Write the table as CSV (RFC 4180), numbers in full.

    Columns are ``system``, and of every metric its value, and where they are shown its bounds
    and deviation; what is not defined is empty.
    """
    columns, rows = columns_of(summary), rows_of(summary)
    cells = [cell for row in rows for cell in row.cells]
    parts = [("", "value")]
    parts += [(" low", "low"), (" high", "high")] if any(c.low is not None for c in cells) else []
    parts += [(" sd of seeds", "spread")] if any(c.spread is not None for c in cells) else []
    metrics = [column for column in columns if column != TIE_RATE]
    head = ["system", *(f"{metric}{title}" for metric in metrics for title, _ in parts)]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*head, *([TIE_RATE] if TIE_RATE in columns else [])])
    for row in rows:
        values = [getattr(cell, name) for cell in row.cells for _, name in parts]
        writer.writerow([row.name, *values, *([row.tie_rate] if TIE_RATE in columns else [])])
    return out.getvalue()
