"""The table on the terminal, in Markdown, LaTeX and CSV."""

import csv
import re
import shutil
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from trec_cli.evaluate.paper import as_csv, latex, markdown
from trec_cli.evaluate.results import Summary
from trec_cli.evaluate.tables import narrow_tables, selected, terminal_table


def entry(value: float | None) -> dict[str, float | None]:
    return {"value": value, "low": 0.25, "high": 0.75}


def summary(*names: str, significant: bool = True) -> Summary:
    systems: dict[str, Any] = {
        name: {
            "examples": 9,
            "tie_rate": 0.5,
            "recall@3": entry(0.4 + place / 10),
            "auc": entry(None),
        }
        for place, name in enumerate(names)
    }
    compared = [
        {"system": name, "reference": names[0], "metric": "recall@3", "p_holm": 0.01}
        for name in names[1:]
    ]
    chance = {"recall@3": 0.125, "auc": None}
    return {
        "users": 9,
        "systems": systems,
        "chance": chance,
        "comparisons": compared if significant else [],
    }


def shown(table: Table, width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_the_terminal_table_shows_values_intervals_marks_and_chance() -> None:
    text = shown(terminal_table(summary("base", "new[/]")), 100)
    for part in ("0.400", "0.500*", ".25–.75", "new[/]", "chance", "0.125", "tie", "9 users"):
        assert part in text
    assert "differs from base" in text


def test_a_narrow_terminal_gets_systems_as_columns() -> None:
    (table,) = narrow_tables(summary("a", "b"), 60)
    rows = [row.split() for row in shown(table, 60).splitlines()]
    assert ["metric", "a", "b", "chance"] in rows
    assert ["tie", "rate", "0.500", "0.500", "–"] in rows


@pytest.mark.parametrize("width", [40, 60, 80])
def test_many_systems_go_over_several_tables_and_nothing_is_cut(width: int) -> None:
    names = [f"system-number-{n}-of-a-study" for n in range(7)]
    tables = narrow_tables(summary(*names), width)
    text = [shown(table, width) for table in tables]
    assert "…" not in "".join(text)
    assert all("chance" in part for part in text)
    assert "9 users" in text[-1]
    assert "9 users" not in text[0]
    assert "".join(text).count(".25–.75") == 7 * 2


def test_markdown_escapes_names_and_marks_the_best() -> None:
    text = markdown(summary("a|b", "c_d"))
    head, rule, first, second, luck, *_ = text.splitlines()
    assert head == "| system | recall@3 | auc | tie rate |"
    assert rule == "| --- | ---: | ---: | ---: |"
    assert first == r"| a\|b | 0.400 [0.250, 0.750] | – [0.250, 0.750] | 0.500 |"
    assert second.startswith(r"| c\_d | **0.500**\* [0.250, 0.750] |")
    assert luck == "| chance | 0.125 | – | – |"


def test_latex_escapes_names_and_has_as_many_cells_as_columns() -> None:
    text = latex(summary("a_b & 5%", "{c}\\"))
    assert r"a\_b \& 5\%" in text
    assert r"\{c\}\textbackslash{}" in text
    assert r"\textbf{.500}\rlap{$^{*}$}" in text
    assert r" & {\tiny .250--.750} & {\tiny .250--.750} &  \\[2pt]" in text
    rows = [row for row in text.splitlines() if r"\\" in row]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {3}
    assert r"\begin{tabular}{@{}lrrr@{}}" in text


def test_a_single_system_is_neither_best_nor_starred() -> None:
    text = markdown(summary("only", significant=False))
    assert "*" not in text
    assert "differs" not in text


def test_of_three_systems_the_second_best_is_marked_too() -> None:
    three = summary("a", "b", "c", significant=False)
    assert "| b | _0.500_ [" in markdown(three)
    assert r"\underline{.500}" in latex(three)
    assert r"\textbf{.600}" in latex(three)
    assert "underline" not in latex(summary("a", "b"))


def test_what_is_shown_alike_is_marked_alike() -> None:
    three = summary("a", "b", "c", significant=False)
    three["systems"]["b"]["recall@3"]["value"] = 0.60001
    text = markdown(three)
    assert text.count("**0.600**") == 2
    assert "_0.400_" in text


def test_tables_may_have_some_metrics_and_no_intervals() -> None:
    narrow = selected(summary("a", "b"), ["auc"], intervals=False)
    head, _, first, *_ = markdown(narrow).splitlines()
    assert head == "| system | auc |"
    assert first == "| a | – |"
    assert "95 % intervals" not in markdown(narrow)
    assert "0.250" in markdown(summary("a", "b")), "the summary itself stays"


def test_columns_come_in_the_order_that_is_asked_for() -> None:
    head, *_ = markdown(selected(summary("a", "b"), ["auc", "recall@3"])).splitlines()
    assert head == "| system | auc | recall@3 |"
    head, *_ = markdown(selected(summary("a", "b"), ["tie rate", "auc"])).splitlines()
    assert head == "| system | auc | tie rate |"


NASTY = [
    "line\nbreak\tand\x1b[31m",
    "pipe|and||pipes",
    "[bracket]",
    "*star",
    "a & b_c %50 #1 $x$ ^~ {y} \\z",
    '"quoted", comma',
    "<b>bold</b> &amp;",
    "`code` ~gone~",
    "naïve café Ångström",
    "- list",
]


def test_any_name_stays_in_its_row_of_markdown() -> None:
    table = markdown(summary(*NASTY)).split("\n\n")[0].splitlines()
    assert len(table) == 2 + len(NASTY) + 1
    for row in table:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, row
    assert r"| line break and \[31m |" in table[2]


def test_any_name_is_one_field_of_csv() -> None:
    head, *rows = csv.reader(StringIO(as_csv(summary(*NASTY)), newline=""))
    assert head == [
        "system", "recall@3", "recall@3 low", "recall@3 high",
        "auc", "auc low", "auc high", "tie rate",
    ]  # fmt: skip
    assert [row[0] for row in rows] == ["line break and [31m", *NASTY[1:], "chance"]
    assert rows[0][1:] == ["0.4", "0.25", "0.75", "", "0.25", "0.75", "0.5"]
    assert rows[-1][1:] == ["0.125", "", "", "", "", "", ""]


def test_csv_without_intervals_has_a_column_for_each_metric() -> None:
    text = as_csv(selected(summary("a", "b"), ["recall@3"], intervals=False))
    assert text.splitlines() == ["system,recall@3", "a,0.4", "b,0.5", "chance,0.125"]


def wide(*names: str) -> Summary:
    """Make a summary with the ten usual metrics."""
    metrics = [f"{name}@{k}" for name in ("recall", "mrr", "ndcg") for k in (3, 5, 10)] + ["auc"]
    systems = {
        name: {"examples": 9, "tie_rate": 0.5, **{m: entry(0.1 * n + 0.3) for m in metrics}}
        for n, name in enumerate(names)
    }
    chance = dict.fromkeys(metrics, 0.125)
    return {"users": 9, "systems": systems, "chance": chance, "comparisons": []}


def test_cut_offs_of_a_metric_share_a_head_in_latex() -> None:
    text = latex(wide("a", "b"))
    assert r" & \multicolumn{3}{c}{recall} & \multicolumn{3}{c}{mrr}" in text
    assert r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}\cmidrule(lr){8-10}" in text
    assert r"system & @3 & @5 & @10 & @3 & @5 & @10 & @3 & @5 & @10 & auc & tie rate \\" in text
    assert text.index(r"\midrule", text.index("b &")) < text.index("chance &")


def test_nothing_stands_in_latex_that_would_end_a_comment_or_a_row() -> None:
    text = latex(summary(*NASTY))
    rows = [row for row in text.splitlines() if row.endswith((r"\\", r"\\[2pt]"))]
    assert len(rows) == 1 + 2 * len(NASTY) + 1
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)
    assert not any(row.startswith(("[", "*")) for row in rows)
    assert r"\%50" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX is installed")
def test_latex_compiles_and_fits_a_page(tmp_path: Path) -> None:
    document = (
        r"\documentclass[a4paper]{article}\usepackage[T1]{fontenc}\usepackage{booktabs}"
        r"\newsavebox{\made}\begin{document}\begin{lrbox}{\made}%" + "\n"
    )
    tables = [latex(wide("blend", "hier")), latex(summary(*NASTY))]
    for table in tables:
        body = (
            document
            + table
            + r"\end{lrbox}\typeout{WIDTH \the\wd\made}\usebox{\made}\end{document}"
        )
        (tmp_path / "table.tex").write_text(body, encoding="utf-8")
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
        found = re.search(r"WIDTH ([\d.]+)pt", done.stdout)
        assert found
        assert float(found[1]) < 470, "16.5 cm"
