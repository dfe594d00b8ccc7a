"""Write docs/cli.md from the commands themselves, or check that it is up to date.

    python scripts/cli_reference.py            writes docs/cli.md
    python scripts/cli_reference.py --check    exits with 1 if docs/cli.md is out of date

Reads names, types, defaults and help texts from the app, never a rendered help page, so
that neither the terminal nor the version of Typer changes the file.
"""

import argparse
import inspect
import itertools
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.text import Text

from trec_cli.commands.app import app

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
HEADER = (
    "# Command line\n\nWritten by `scripts/cli_reference.py` from the commands themselves; "
    "`make docs` writes it again. Do not edit it by hand.\n\n"
)
TYPES = {str: "text", int: "integer", float: "number", Path: "path", bool: "flag"}
PLAIN = "Options"


def plain(markup: str | None) -> str:
    """Take Rich markup away."""
    return Text.from_markup(markup or "").plain.strip()


def cell(text: str) -> str:
    """Make text safe inside a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def type_name(annotation: Any) -> str:
    """Name the type of a parameter: choices by their values, lists as repeatable."""
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return type_name(next(a for a in get_args(annotation) if a is not types.NoneType))
    if get_origin(annotation) is list:
        return f"{type_name(get_args(annotation)[0])}, repeatable"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return TYPES.get(annotation, getattr(annotation, "__name__", "text"))


def default_text(parameter: Any) -> str:
    """Describe the value that holds where the parameter is left out."""
    shown = getattr(parameter, "show_default", None)
    if parameter.required:
        return "required"
    if isinstance(shown, str):
        return shown
    if isinstance(parameter.default, bool):
        return "on" if parameter.default else "off"
    return "" if parameter.default is None else f"`{parameter.default}`"


def meaning(parameter: Any) -> str:
    """Return the help text, with the environment variable where there is one."""
    variable = f" Environment: `{parameter.envvar}`." if parameter.envvar else ""
    return plain(parameter.help) + variable


def option_rows(command: Any, parameters: Iterable[Any]) -> Iterator[str]:
    """Write the rows of a table of parameters."""
    signature = inspect.signature(command.callback).parameters
    for parameter in parameters:
        names = ", ".join(f"`{n}`" for n in (*parameter.opts, *parameter.secondary_opts))
        known = signature.get(parameter.name)
        kind = type_name(known.annotation) if known else "flag"
        cells = (names, kind, default_text(parameter), meaning(parameter))
        yield f"| {' | '.join(map(cell, cells))} |\n"


def tables(command: Any) -> Iterator[str]:
    """Write a table for the arguments and one for each panel of options."""
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        if parameter.hidden:
            continue
        argument = parameter.param_type_name == "argument"
        panel = "Arguments" if argument else parameter.rich_help_panel or PLAIN
        panels.setdefault(panel, []).append(parameter)
    for panel, parameters in panels.items():
        yield f"**{panel}**\n\n| name | type | default | meaning |\n|---|---|---|---|\n"
        yield from option_rows(command, parameters)
        yield "\n"


def to_type(line: str) -> str:
    """Return the command line that a help text shows, or nothing."""
    command = line.strip().removeprefix("Example: ")
    return command if command.startswith("trec ") or "| trec " in command else ""


def prose(text: str) -> str:
    """Write a help text; lines to type become a code block."""
    page = ""
    for typed, lines in itertools.groupby(text.splitlines(), key=lambda line: bool(to_type(line))):
        block = "\n".join(to_type(line) or line.strip() for line in lines).strip()
        if block:
            page += f"```\n{block}\n```\n\n" if typed else f"{block}\n\n"
    return page.replace("\n```\n\n```\n", "\n")


def usage(name: str, command: Any) -> str:
    """Write the usage line."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    shown = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    return f"Usage: `{' '.join([name, '[OPTIONS]', *shown])}`\n\n"


def reference() -> str:
    """Write the whole page."""
    root: Any = typer.main.get_command(app)
    page = [HEADER, "## trec\n\n", prose(plain(root.help)), *tables(root)]
    page.append(prose(plain(root.epilog)))
    for name, command in root.commands.items():
        title = f"trec {name}"
        page += [f"## {title}\n\n", prose(plain(inspect.cleandoc(command.help or "")))]
        page += [usage(title, command), *tables(command)]
    return "".join(page).rstrip("\n") + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check ``docs/cli.md``; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--target", type=Path, default=TARGET, help="the file (docs/cli.md)")
    options = parser.parse_args(arguments)
    page, target = reference(), options.target
    if options.check:
        if target.is_file() and target.read_text(encoding="utf-8") == page:
            return 0
        print(f"{target.name} is out of date: run `make docs` and commit it", file=sys.stderr)
        return 1
    target.write_text(page, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
