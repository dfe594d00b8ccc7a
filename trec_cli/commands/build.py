"""Commands made from settings dataclasses: every option stands there, and nowhere again.

A command is a function of its settings::

    @command("score", ScoreOptions)
    def score(options: ScoreOptions, invocation: Invocation, terminal: Terminal) -> None:
        '''Score every candidate …'''

:func:`command` gives Typer a function with one parameter per declared option
(:mod:`trec_cli.core.options`), followed by those that every command has, and calls the
original with the settings made of them, inside :func:`~trec_cli.commands.console.stage`.
"""

import inspect
import re
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from trec_cli.commands.config import load_config, load_preset, preset_only
from trec_cli.commands.console import Terminal, stage
from trec_cli.core.changes import as_typed
from trec_cli.core.errors import SettingsChanged
from trec_cli.core.jsonl import is_stream
from trec_cli.core.options import Declared, Option, build, declared, is_names, split_names

COMMON = "Output and behaviour"


@dataclass(frozen=True)
class Common:
    """How every command behaves; declared here once, read by :func:`command` alone."""

    dry_run: Annotated[
        bool,
        Option(
            "Check inputs and show what would be done (a real prompt, the cost); write nothing.",
            panel=COMMON,
            names=("--dry-run",),
        ),
    ] = False
    overwrite: Annotated[
        bool, Option("Replace existing output.", panel=COMMON, names=("--overwrite",))
    ] = False
    quiet: Annotated[
        bool, Option("Only warnings and errors.", panel=COMMON, names=("--quiet", "-q"))
    ] = False
    json_line: Annotated[
        bool,
        Option(
            "End with one JSON line on stdout; on stderr with --out -.",
            panel=COMMON,
            names=("--json",),
        ),
    ] = False
    debug: Annotated[bool, Option("Show tracebacks.", panel=COMMON, names=("--debug",))] = False


@dataclass(frozen=True)
class Invocation:
    """What a command knows of its call, beside the settings.

    Attributes:
        context: Typer's.
        typed: parameters on the command line.
        given: these and those of a config file; what is not among them has its default, or
            that of a preset.
        dry_run, overwrite, quiet, json_line: see :class:`Common`.
    """

    context: typer.Context
    typed: frozenset[str]
    given: frozenset[str]
    dry_run: bool
    overwrite: bool
    quiet: bool
    json_line: bool


Body = Callable[[Any, Invocation, Terminal], None]


def command(
    name: str, settings: type, *, streams: bool = True, speaks: Callable[[], bool] = lambda: True
) -> Callable[[Body], Callable[..., None]]:
    """Make a Typer command of a function of settings.

    Args:
        name: as the JSON line has it.
        settings: dataclass that declares the options.
        streams: whether ``--out -`` sends data to stdout, so that the JSON line must not.
        speaks: whether this process of several prints anything.
    """

    def make(body: Body) -> Callable[..., None]:
        options = list(declared(settings))

        def run(context: typer.Context, **values: Any) -> None:
            values.pop("config", None)
            values.pop("preset", None)
            common = {option.name: values.pop(option.parameter) for option in declared(Common)}
            quiet = common["quiet"] or not speaks()
            piped = streams and values.get("out") is not None and is_stream(values["out"])
            with stage(
                name,
                quiet=quiet,
                json_line=common["json_line"] and speaks(),
                debug=common["debug"],
                data_on_stdout=piped,
            ) as terminal:
                parsed = {o.parameter: _parsed(o, values[o.parameter]) for o in options}
                typed = _given(context, "COMMANDLINE")
                filed = _given(context, "DEFAULT_MAP") - preset_only(context)
                invocation = Invocation(
                    context,
                    typed,
                    typed | filed,
                    common["dry_run"],
                    common["overwrite"],
                    quiet,
                    common["json_line"],
                )
                with _named_as_typed(options):
                    body(build(settings, parsed), invocation, terminal)

        run.__doc__ = joined_lines(body.__doc__ or "")
        run.__name__ = body.__name__
        run.__module__ = body.__module__
        _sign(run, options)
        return run

    return make


def joined_lines(text: str) -> str:
    """Join the lines of every paragraph, which a terminal breaks where its own width ends.

    Indented lines (examples to type) stay as they are.
    """
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(re.sub(r"\n(?! )", " ", paragraph) for paragraph in paragraphs)


@contextmanager
def _named_as_typed(options: list[Declared]) -> Iterator[None]:
    """Name settings that differ from an earlier run's by the options that a user types.

    Raises:
        SettingsChanged: in those words.
    """
    try:
        yield
    except SettingsChanged as change:
        raise change.worded(as_typed(change.changed, options)) from change


def _given(context: typer.Context, *sources: str) -> frozenset[str]:
    """Name the parameters whose value came from one of ``sources``, such as COMMANDLINE."""
    found = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in found.items() if source and source.name in sources)


def _sign(run: Callable[..., None], options: list[Declared]) -> None:
    """Set the signature of a function that Typer reads: options first, then the common ones."""
    shown = [*options, *declared(Common)]
    names = [option.parameter for option in shown]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{run.__name__} declares {', '.join(sorted(twice))} twice")
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(
            inspect.Parameter(
                option.parameter, keyword, annotation=_annotation(option), default=_default(option)
            )
            for option in shown
        ),
        inspect.Parameter("config", keyword, annotation=CONFIG, default=None),
        inspect.Parameter("preset", keyword, annotation=PRESET, default=None),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}


CONFIG = Annotated[
    Path | None,
    typer.Option(
        callback=load_config,
        is_eager=True,
        help="TOML file with any of these options.",
        rich_help_panel=COMMON,
    ),
]


PRESET = Annotated[
    str | None,
    typer.Option(
        callback=load_preset,
        is_eager=True,
        help="Other defaults: paper, those of arXiv 2403.13325; text, how likely each title is.",
        rich_help_panel=COMMON,
    ),
]


def _annotation(declared: Declared) -> Any:
    """Translate a declaration into Typer's words."""
    option = declared.option
    if option.argument:
        return Annotated[declared.type, typer.Argument(help=option.help, metavar=option.metavar)]
    described = typer.Option(
        *_flags(declared),
        help=option.help,
        rich_help_panel=option.panel or None,
        min=option.minimum,
        max=option.maximum,
        metavar=option.metavar,
        envvar=option.envvar,
        show_default=option.default_text or True,
    )
    kind = list[str] if option.repeatable else _typed(declared.type)
    return Annotated[kind, described]


def _flags(declared: Declared) -> tuple[str, ...]:
    """Name the flags of an option; one that is off by default needs no --no-flag."""
    if not declared.option.names and declared.default is False:
        return (declared.flag,)
    return declared.option.names


def _typed(kind: Any) -> Any:
    """Return the type that Typer parses: names with commas as one text, tuples as lists."""
    if is_names(kind):
        return str | None
    if get_origin(kind) in (Union, types.UnionType):
        first, *rest = (_typed(part) for part in get_args(kind))
        for part in rest:
            first = first | part
        return first
    if get_origin(kind) is tuple:
        return list[get_args(kind)[0]]  # type: ignore[misc]
    return kind


def _default(declared: Declared) -> Any:
    if declared.default is MISSING:
        return inspect.Parameter.empty
    if isinstance(declared.default, tuple):
        if declared.with_commas:
            return ",".join(declared.default)
        return list(declared.default) or None  # an empty list would stand in the help as []
    return declared.default


def _parsed(declared: Declared, value: Any) -> Any:
    """Turn what Typer gives into what the dataclass holds."""
    if declared.with_commas:
        return split_names(value)
    return tuple(value or ()) if isinstance(declared.default, tuple) else value
