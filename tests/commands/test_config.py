"""``--config FILE.toml`` holds any option; the command line and the environment win."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from trec_cli.commands.build import CONFIG

app = typer.Typer()


@app.command()
def score(
    run: Path,
    max_length: Annotated[int, typer.Option("--max-length", "-m", min=1)] = 10,
    chat: Annotated[bool | None, typer.Option("--chat/--no-chat")] = None,
    scores: Annotated[list[str] | None, typer.Option()] = None,
    json_line: Annotated[bool, typer.Option("--json")] = False,
    model: Annotated[str, typer.Option(envvar="TREC_TEST_MODEL")] = "small",
    config: CONFIG = None,
) -> None:
    """Print what was understood."""
    typer.echo(f"{run} {max_length} {chat} {scores or []} {json_line} {model}")


@app.command()
def other() -> None:
    """Make the app one with several commands."""


def _call(tmp_path: Path, content: str | bytes, *arguments: str) -> tuple[int, str]:
    path = tmp_path / "settings.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    wide = {"COLUMNS": "400", "TERMINAL_WIDTH": "400"}
    result = CliRunner(env=wide).invoke(app, ["score", *arguments, "--config", str(path)])
    return result.exit_code, result.output.strip()


def test_options_and_arguments_come_from_the_file(tmp_path: Path) -> None:
    content = 'run = "r"\nmax-length = 5\nscores = ["a", "b"]\njson = true\nchat = true\n'
    assert _call(tmp_path, content) == (0, "r 5 True ['a', 'b'] True small")


def test_dashes_and_underscores_are_the_same(tmp_path: Path) -> None:
    assert _call(tmp_path, "max_length = 5", "r") == (0, "r 5 None [] False small")


def test_a_table_with_the_name_of_the_command_is_its_own(tmp_path: Path) -> None:
    content = '[other]\nepochs = 3\n[score]\nmodel = "big"\n'
    assert _call(tmp_path, content, "r") == (0, "r 10 None [] False big")


def test_tables_of_other_commands_are_left_alone(tmp_path: Path) -> None:
    assert _call(tmp_path, "[other]\nepochs = 3\n", "r") == (0, "r 10 None [] False small")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[scoer]\nmax-length = 5", "no command [scoer]; there are score, other"),
        ("max-length = 1\n[score]\nchat = true", "max-length above [score]"),
        ('model = ["a", "b"]', "model is one value, not a list"),
    ],
)
def test_nothing_is_passed_over_in_silence(tmp_path: Path, content: str, message: str) -> None:
    code, output = _call(tmp_path, content, "r")
    assert code == 2
    assert message in output


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    assert _call(tmp_path, 'scores = "a"', "r") == (0, "r 10 None ['a'] False small")


def test_the_command_line_wins(tmp_path: Path) -> None:
    content = 'run = "r"\nmax-length = 5\nscores = ["a"]\nchat = true'
    found = _call(tmp_path, content, "R", "-m", "7", "--no-chat", "--scores", "z")
    assert found == (0, "R 7 False ['z'] False small")


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREC_TEST_MODEL", "named")
    assert _call(tmp_path, 'model = "big"', "r") == (0, "r 10 None [] False named")


def test_an_option_may_be_written_in_its_negative_form(tmp_path: Path) -> None:
    assert _call(tmp_path, "no-chat = true", "r") == (0, "r 10 False [] False small")
    assert _call(tmp_path, "no_chat = false", "r") == (0, "r 10 True [] False small")


def test_an_unknown_option_is_named_with_what_was_meant(tmp_path: Path) -> None:
    code, output = _call(tmp_path, "max-lenght = 5\nscore = 1", "r")
    assert code == 2
    told = " ".join(output.replace("│", " ").split())
    assert "no option max-lenght (did you mean max-length?), no option score" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('max-length = "many"', "--max-length"),
        ("max-length = 0", "--max-length"),
        ("max-length = ", "is not readable TOML"),
        ('model = "é"'.encode("latin-1"), "is not readable TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_wrong_usage(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    code, output = _call(tmp_path, content, "r")
    assert code == 2
    assert message in output
    assert "Traceback" not in output


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["score", "r", "--config", "none.toml"])
    assert result.exit_code == 2
    assert "no such file: none.toml" in result.output
