"""The CLI reference is written from the app, the same on every terminal, and checked."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from scripts.cli_reference import TARGET, cell, main, prose, reference, type_name

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cli_reference.py"


def test_the_committed_page_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == reference(), "run `make docs`"


@pytest.mark.parametrize("command", ["prepare", "summarize", "train", "score", "eval"])
def test_every_command_is_there_with_usage_and_an_example(command: str) -> None:
    section = reference().split(f"## trec {command}\n")[1].split("\n## ")[0]
    assert f"Usage: `trec {command} [OPTIONS]" in section
    assert f"```\ntrec {command} " in section
    for option in ("--quiet", "--json", "--debug", "--config"):
        assert f"| `{option}`" in section


def test_environment_variables_and_exit_codes_are_named() -> None:
    page = reference()
    assert "Environment: `TREC_MODEL`." in page
    assert "Exit codes: 0 done" in page


def test_check_passes_on_what_was_written_and_fails_on_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "cli.md"
    check = ["--check", "--target", str(page)]
    assert main(check) == 1
    assert main(["--target", str(page)]) == 0
    assert main(check) == 0
    page.write_text(page.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    capsys.readouterr()
    assert main(check) == 1
    assert capsys.readouterr().err == "cli.md is out of date: run `make docs` and commit it\n"


def test_the_terminal_changes_nothing(tmp_path: Path) -> None:
    pages = []
    for width in ("40", "200"):
        target = tmp_path / f"{width}.md"
        environment = {**os.environ, "COLUMNS": width, "TERMINAL_WIDTH": width, "FORCE_COLOR": "1"}
        command = [sys.executable, str(SCRIPT), "--target", str(target)]
        subprocess.run(command, check=True, env={**environment, "TREC_MODEL": "other"})
        pages.append(target.read_text(encoding="utf-8"))
    assert pages == [reference(), reference()]


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (Path | None, "path"),
        (Annotated[int, "more"], "integer"),
        (list[Path] | None, "path, repeatable"),
        (Annotated[Literal["a", "b"] | None, "more"], "`a`, `b`"),
        (bool | None, "flag"),
    ],
)
def test_types_are_named_as_users_know_them(annotation: Any, name: str) -> None:
    assert type_name(annotation) == name


def test_cells_stay_in_their_table() -> None:
    assert cell("a | b\n  c") == "a \\| b c"


def test_lines_to_type_become_one_block() -> None:
    text = "Say.\n\n  trec a\n\n  cat f | trec b\n\nExample: trec c\nMore."
    assert prose(text) == "Say.\n\n```\ntrec a\ncat f | trec b\ntrec c\n```\n\nMore.\n\n"
