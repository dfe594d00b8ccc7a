"""The table on the terminal, in Markdown and in LaTeX."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from trec_cli.evaluate.results import Summary
from trec_cli.evaluate.tables import latex, markdown, narrow_tables, selected, terminal_table


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
    assert r"\textbf{0.500}\rlap{$^{*}$} {\tiny [0.250, 0.750]}" in text
    rows = [row for row in text.splitlines() if row.endswith(r"\\")]
    assert {row.replace(r"\&", "").count("&") for row in rows} == {3}
    assert r"\begin{tabular}{lrrr}" in text


def test_a_single_system_is_neither_best_nor_starred() -> None:
    text = markdown(summary("only", significant=False))
    assert "*" not in text
    assert "differs" not in text


def test_of_three_systems_the_second_best_is_marked_too() -> None:
    three = summary("a", "b", "c", significant=False)
    assert "| b | _0.500_ [" in markdown(three)
    assert r"\underline{0.500}" in latex(three)
    assert r"\textbf{0.600}" in latex(three)
    assert "underline" not in latex(summary("a", "b"))


def test_tables_may_have_some_metrics_and_no_intervals() -> None:
    narrow = selected(summary("a", "b"), ["auc"], intervals=False)
    head, _, first, *_ = markdown(narrow).splitlines()
    assert head == "| system | auc | tie rate |"
    assert first == "| a | – | 0.500 |"
    assert "95 % intervals" not in markdown(narrow)
    assert "0.250" in markdown(summary("a", "b")), "the summary itself stays"


def test_columns_come_in_the_order_that_is_asked_for() -> None:
    head, *_ = markdown(selected(summary("a", "b"), ["auc", "recall@3"])).splitlines()
    assert head == "| system | auc | recall@3 | tie rate |"
