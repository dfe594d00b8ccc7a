"""The mutants of a module, and what counts as a difference between two runs."""

import ast
from pathlib import Path

import pytest

from scripts.kill_rounds import contents, differences
from scripts.mutants import mutants


def changed(source: str) -> list[str]:
    """Return every mutant of a source as it is written."""
    return [ast.unparse(mutant.tree) for mutant in mutants(source)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("a < b", ["a <= b"]),
        ("a < b == c", ["a <= b == c", "a < b != c"]),
        ("a + b", ["a - b"]),
        ("a and b", ["a or b"]),
        ("not a", ["not not a"]),
        ("x = 3", ["x = 4"]),
        ("x = 'text'", []),
        ("x: int | None", []),
        ("max(a, b)", ["None", "min(a, b)"]),
        ("[x for x in y if x]", ["[x for x in y]"]),
    ],
)
def test_one_thing_is_changed_at_a_time(source: str, found: list[str]) -> None:
    assert sorted(changed(source)) == sorted(found)


def test_a_condition_is_negated_and_its_line_named() -> None:
    [mutant] = mutants("a\nif b:\n    c")
    assert (mutant.line, mutant.what) == (2, "condition negated")
    assert ast.unparse(mutant.tree) == "a\nif not b:\n    c"


def test_files_that_are_missing_left_or_other_are_differences(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same").write_bytes(b"x")
        (tmp_path / name / "other").write_bytes(name.encode())
        (tmp_path / name / f"only-{name}").touch()
        text = f'{{"seconds": {len(name)}.5, "started": "{name}", "settings": {{"k": 1}}}}'
        (tmp_path / name / "x.manifest.json").write_text(text)
    found = differences(contents(tmp_path / "one"), contents(tmp_path / "two"))
    assert found == ["only-one is missing", "only-two is left", "other differs"]
