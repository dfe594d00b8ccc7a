"""The table on the terminal, in Markdown and in LaTeX."""

from io import StringIO
from typing import Any

from rich.console import Console

from trec_cli.evaluation.results import Summary
from trec_cli.evaluation.tables import latex, markdown, terminal_table


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


def drawn(content: Summary, *, wide: bool = True) -> str:
    out = StringIO()
    Console(file=out, width=100).print(terminal_table(content, wide=wide))
    return out.getvalue()


def test_the_terminal_table_shows_values_intervals_marks_and_chance() -> None:
    text = drawn(summary("base", "new[/]"))
    for part in ("0.400", "0.500*", ".25–.75", "new[/]", "chance", "0.125", "tie", "9 users"):
        assert part in text
    assert "differs from base" in text


def test_a_narrow_terminal_gets_systems_as_columns() -> None:
    rows = [row.split() for row in drawn(summary("a", "b"), wide=False).splitlines()]
    assert ["metric", "a", "b", "chance"] in rows
    assert ["tie", "rate", "0.500", "0.500", "–"] in rows


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
