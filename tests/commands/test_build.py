"""Commands made from settings: options, groups, defaults, config files and refusals."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from trec_cli.commands.build import Invocation, command, joined_lines
from trec_cli.commands.console import Terminal
from trec_cli.core.errors import UsageError
from trec_cli.core.options import Option, build, check_choice, declared, differing


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Annotated[int, Option("How many.", panel="Sizes", minimum=1)] = 3
    names: Annotated[tuple[str, ...] | None, Option("With commas.")] = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    run: Annotated[Path | None, Option("A folder.", argument=True)] = None
    mode: Annotated[Literal["a", "b"], Option("Which.")] = "a"
    chat: Annotated[bool | None, Option("Chat.", names=("--chat/--no-chat",))] = None
    inner: Inner = field(default_factory=Inner)
    many: Annotated[tuple[Path, ...], Option("Repeatable.", names=("--file",))] = ()
    tags: Annotated[tuple[str, ...], Option("As it is.", repeatable=True)] = ()
    library_only: int = 7


SEEN: list[tuple[Outer, Invocation]] = []


def app() -> typer.Typer:
    made = typer.Typer()

    @command("try", Outer)
    def try_it(options: Outer, invocation: Invocation, terminal: Terminal) -> None:
        """Try it."""
        SEEN.append((options, invocation))
        terminal.result(size=options.inner.size)

    made.command("try")(try_it)
    made.command("other")(lambda: None)
    return made


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app(), ["try", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_paragraphs_of_a_help_text_are_joined_and_lines_to_type_are_kept() -> None:
    text = """Try it.

    One line, and
    the other.

    Examples:
      trec try one
      trec try two

    The
    end.
    """
    assert joined_lines(text) == (
        "Try it.\n\nOne line, and the other.\n\n"
        "Examples:\n  trec try one\n  trec try two\n\nThe end."
    )


def test_every_option_of_a_group_is_an_option_of_the_command() -> None:
    run("folder", "--size", "5", "--names", "x, y", "--no-chat", "--file", "p", "--file", "q")
    options, invocation = SEEN[-1]
    assert options == Outer(
        run=Path("folder"),
        chat=False,
        inner=Inner(size=5, names=("x", "y")),
        many=(Path("p"), Path("q")),
    )
    assert invocation.typed == {"run", "size", "names", "chat", "file"}


def test_texts_of_a_repeatable_option_may_have_commas() -> None:
    run("--tags", "a,b", "--tags", "c")
    assert SEEN[-1][0].tags == ("a,b", "c")


def test_defaults_are_those_of_the_dataclass() -> None:
    run()
    options, invocation = SEEN[-1]
    assert options == Outer()
    assert not invocation.given
    assert not invocation.overwrite


def test_a_config_file_gives_options_of_groups(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("size = 9\nmode = 'b'\nfile = 'one'")
    run("--config", str(file))
    options, invocation = SEEN[-1]
    assert (options.inner.size, options.mode, options.many) == (9, "b", (Path("one"),))
    assert invocation.typed == {"config"}
    assert invocation.given == {"size", "mode", "file", "config"}


@pytest.mark.parametrize("arguments", [["--mode", "c"], ["--size", "0"], ["--nothing"]])
def test_what_the_declaration_forbids_is_wrong_usage(arguments: list[str]) -> None:
    run(*arguments, code=2)


def test_json_ends_with_what_the_command_told() -> None:
    told = json.loads(run("--json", "--size", "4").stdout)
    assert told == {"size": 4, "command": "try", "ok": True, "exit_code": 0}


def test_a_name_declared_twice_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Twice:
        inner: Inner = Inner()
        size: Annotated[int, Option("Again.")] = 1

    with pytest.raises(TypeError, match="size twice"):
        command("twice", Twice)(lambda *_: None)


def test_options_are_listed_in_field_order_with_their_groups() -> None:
    found = [(option.parameter, option.path) for option in declared(Outer)]
    assert found == [
        ("run", ()),
        ("mode", ()),
        ("chat", ()),
        ("size", ("inner",)),
        ("names", ("inner",)),
        ("file", ()),
        ("tags", ()),
    ]


def test_settings_are_built_by_name() -> None:
    values = {"run": None, "mode": "b", "chat": True, "size": 2, "names": None, "file": ()}
    values["tags"] = ()
    made = build(Outer, values, library_only=1)
    assert made == Outer(mode="b", chat=True, inner=Inner(size=2), library_only=1)


def test_a_wrong_choice_names_option_value_and_choices() -> None:
    with pytest.raises(UsageError, match=r"^--mode c: choose one of a, b$"):
        check_choice("--mode", "c", ("a", "b"))


def test_options_that_differ_from_their_default_are_named() -> None:
    assert differing(Outer()) == set()
    assert differing(Outer(mode="b", inner=Inner(size=4))) == {"mode", "size"}
