"""``--config FILE.toml``: every option of a stage from a file; the command line wins."""

import tomllib
from pathlib import Path
from typing import Any

import typer


def load_config(context: typer.Context, _parameter: Any, path: Path | None) -> Path | None:
    """Put the file's values under the command's defaults (a Typer callback).

    The file holds either the options themselves or a table with the command's name;
    dashes and underscores in option names are the same.  Unknown options are an error.
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
    if not isinstance(own, dict):
        own = _without_tables(content)
    context.default_map = {**(context.default_map or {}), **_known(context, path, own)}
    return path


def _without_tables(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if not isinstance(value, dict)}


def _known(context: typer.Context, path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Map option names to parameter names, or complain about those that do not exist."""
    found: dict[str, Any] = {}
    options = {_plain(option): p for p in context.command.params for option in p.opts}
    negated = {_plain(option): p for p in context.command.params for option in p.secondary_opts}
    unknown = sorted(name for name in values if _plain(name) not in options | negated)
    if unknown:
        known = ", ".join(sorted(name.replace("_", "-") for name in options if len(name) > 1))
        raise typer.BadParameter(f"{path}: no option {', '.join(unknown)}; there are {known}")
    for name, value in values.items():
        positive = options.get(_plain(name))
        parameter = positive or negated[_plain(name)]
        found[parameter.name or ""] = value if positive else not value
    return found


def _plain(option: str) -> str:
    return option.lstrip("-").replace("-", "_")
