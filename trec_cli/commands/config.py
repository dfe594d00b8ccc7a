"""Options of a stage from a TOML file: ``--config FILE``, ``--preset NAME`` for one of ours.

The command line wins over the file, the file over the preset, the preset over the defaults.
"""

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

import typer

from trec_cli.core.text import listed


def load_config(context: typer.Context, _parameter: Any, path: Path | None) -> Path | None:
    """Put the file's values under the command's defaults (a Typer callback).

    The file holds either the options themselves or a table for each command; dashes and
    underscores in option names are the same.  Unknown options and tables are an error.
    """
    if path is None:
        return None
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise typer.BadParameter(f"no such file: {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise typer.BadParameter(f"{path} is not readable TOML: {error}") from None
    own = content.get(context.info_name or "")
    _check_tables(context, path, content)
    if not isinstance(own, dict):
        own = {name: value for name, value in content.items() if not isinstance(value, dict)}
    known = _known(context, path, own)
    context.meta[_CONFIGURED] = frozenset(known)
    context.default_map = {**(context.default_map or {}), **known}
    return path


def load_preset(context: typer.Context, _parameter: Any, name: str | None) -> str | None:
    """Put a preset's values under those of a config file (a Typer callback).

    A preset that has none for the command would do nothing, and is an error.
    """
    if name is None:
        return None
    if name not in preset_names():
        raise typer.BadParameter(f"no preset {name}; there are {', '.join(preset_names())}")
    content = tomllib.loads((_PRESETS / f"{name}.toml").read_text(encoding="utf-8"))
    own = context.info_name or ""
    if own not in content:
        raise typer.BadParameter(f"{name} has settings for {listed(content)}, none for {own}")
    known = _known(context, Path(f"{name}.toml"), content[own])
    context.meta[_PRESET] = frozenset(known)
    context.default_map = {**known, **(context.default_map or {})}
    return name


def preset_only(context: typer.Context) -> frozenset[str]:
    """Name the parameters that a preset has set and no config file has."""
    preset: frozenset[str] = context.meta.get(_PRESET, frozenset())
    configured: frozenset[str] = context.meta.get(_CONFIGURED, frozenset())
    return preset - configured


_PRESET, _CONFIGURED = "trec.preset", "trec.config"
"""Where a command's context keeps the parameters that each has set."""
_PRESETS = resources.files("trec_cli") / "presets"


def preset_names() -> list[str]:
    """Name the presets that come with trec."""
    return sorted(
        p.name.removesuffix(".toml") for p in _PRESETS.iterdir() if p.name.endswith(".toml")
    )


def _check_tables(context: typer.Context, path: Path, content: dict[str, Any]) -> None:
    """Refuse what would be passed over in silence: unknown tables, options above one's own."""
    commands = getattr(context.find_root().command, "commands", {})
    tables = {name for name, value in content.items() if isinstance(value, dict)}
    strange = sorted(tables - commands.keys())
    if commands and strange:
        raise typer.BadParameter(
            f"{path}: no command [{strange[0]}]; there are {', '.join(commands)}"
        )
    if context.info_name in tables and (loose := sorted(content.keys() - tables)):
        raise typer.BadParameter(
            f"{path}: {', '.join(loose)} above [{context.info_name}]; "
            "move it into the tables of the commands that it is for"
        )


def _known(context: typer.Context, path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Map option names to parameter names, or complain about those that do not exist."""
    found: dict[str, Any] = {}
    options = {_plain(option): p for p in context.command.params for option in p.opts}
    negated = {_plain(option): p for p in context.command.params for option in p.secondary_opts}
    unknown = sorted(name for name in values if _plain(name) not in options | negated)
    if unknown:
        raise typer.BadParameter(f"{path}: {_unknown(unknown, options, context)}")
    for name, value in values.items():
        positive = options.get(_plain(name))
        parameter = positive or negated[_plain(name)]
        found[parameter.name or ""] = _fitting(name, parameter, value) if positive else not value
    return found


def _unknown(unknown: list[str], options: Iterable[str], context: typer.Context) -> str:
    """Name options that do not exist, with those that were meant, or where to look."""
    known = {name.replace("_", "-") for name in options if len(name) > 1}
    told = []
    for name in unknown:
        close = get_close_matches(name.lstrip("-").replace("_", "-"), known, n=3)
        told.append(
            f"no option {name}" + (f" (did you mean {' or '.join(close)}?)" if close else "")
        )
    return f"{', '.join(told)}; all are in `{context.command_path} --help`"


def _fitting(name: str, parameter: Any, value: Any) -> Any:
    """Let one value stand for a list of one; a list where one value is due is an error."""
    if parameter.multiple:
        return value if isinstance(value, list) else [value]
    if isinstance(value, list):
        raise typer.BadParameter(
            f"{name} is one value, not a list; write several names as one text: 'a,b'"
        )
    return value


def _plain(option: str) -> str:
    return option.lstrip("-").replace("-", "_")
