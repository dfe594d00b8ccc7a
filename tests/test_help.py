"""Help answers at once, shows examples that parse, and loses no word to markup."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trec_cli import __version__
from trec_cli.commands.app import app

GROUP: Any = typer.main.get_command(app)
COMMANDS = list(GROUP.commands)
HEAVY = ("torch", "transformers", "peft", "datasets", "polars", "scipy", "pandas", "bs4", "openai")
MARKUP = re.compile(r"\[/?(?:[a-z][^\[]*?)?\]")
STYLES = {f"[{sign}{style}]" for sign in ("", "/") for style in ("", "b", "bold", "dim")}


def _help_texts(command: Any) -> list[str]:
    options = [parameter.help or "" for parameter in command.params]
    return [inspect.cleandoc(command.help or ""), *options]


def _examples(name: str) -> list[list[str]]:
    """List the arguments of the command lines that a help text shows."""
    text = MARKUP.sub("", GROUP.commands[name].help)
    lines = re.findall(rf"\btrec {name}( .*)?$", text, flags=re.MULTILINE)
    return [shlex.split(line.split("|")[0], comments=True) for line in lines]


def test_the_five_stages_recommend_and_merge_are_there() -> None:
    assert COMMANDS == ["prepare", "summarize", "train", "score", "eval", "recommend", "merge"]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("width", ["80", "200"])
def test_help_of_every_command_works_and_names_its_options(name: str, width: str) -> None:
    result = CliRunner(env={"COLUMNS": width, "TERMINAL_WIDTH": width}).invoke(
        app, [name, "--help"]
    )
    assert result.exit_code == 0
    assert f"trec {name}" in result.output
    for option in ("--out", "--json", "--config", "--dry-run", "--overwrite"):
        assert option in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_and_every_example_parses(name: str) -> None:
    examples = _examples(name)
    assert examples
    for arguments in examples:
        GROUP.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    for parameter in GROUP.commands[name].params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_no_word_of_a_help_text_is_taken_for_markup(name: str) -> None:
    for text in _help_texts(GROUP.commands[name]):
        tags = set(MARKUP.findall(text))
        assert tags <= STYLES, text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_terminal_alone_breaks_the_lines_of_a_paragraph(name: str) -> None:
    assert not re.search(r"[^\n]\n[^\n ]", GROUP.commands[name].help)


def test_all_exit_codes_are_listed() -> None:
    shown = " ".join(CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"]).output.split())
    assert "5 partly done, run again · 130 Ctrl-C · 143 SIGTERM." in shown


def test_without_arguments_help_is_shown() -> None:
    assert "prepare → summarize → train → score → eval" in CliRunner().invoke(app, []).output


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"trec {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *[[n, "--help"] for n in COMMANDS]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom trec_cli.commands.app import app\n"
        "try:\n    app(sys.argv[1:])\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    environment = {**os.environ, "_TREC_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", "from trec_cli.commands.app import app; app(prog_name='trec')"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "_TREC_COMPLETE" in done.stdout
    assert done.stderr == ""


def test_completion_completes_commands_and_options() -> None:
    for typed, word, expected in [
        ("trec su", "1", "summarize"),
        ("trec score --sco", "2", "--scorer"),
    ]:
        environment = {
            **os.environ,
            "_TREC_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": word,
        }
        done = subprocess.run(
            [sys.executable, "-c", "from trec_cli.commands.app import app; app(prog_name='trec')"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == [expected]


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["score", "--none"], ["score", "--limit", "0"], ["prepare"]]
)
def test_wrong_usage_ends_with_2_and_no_traceback(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
