"""Options of the commands, each declared once: on a field of its stage's settings dataclass.

A field ``recent: Annotated[int, Option("Last history items shown.", minimum=0)] = 3`` is
name, type, default and help of ``--recent``.  The command line, ``--config``, studies and
``docs/cli.md`` are made from it (:mod:`trec_cli.commands.build`); the Python API takes the
dataclass itself.  A field whose type is another settings dataclass is a *group*: its options
are options of the command, too.  Nothing here knows Typer.
"""

import types
from collections.abc import Collection, Iterable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from trec_cli.core.errors import UsageError


@dataclass(frozen=True)
class Option:
    """What the command line needs to know of a field, beside its name, type and default.

    Attributes:
        help: one or two sentences for people.
        panel: heading of the help page under which the option stands.
        names: flags, where they are not made from the field's name (``("--json",)``).
        minimum, maximum: of a number, both included.
        metavar: placeholder of the value in the help page.
        envvar: environment variable that stands in for the option.
        default_text: the default in words, where the field's own default says too little.
        argument: a positional argument instead of an option.
        recorded: name in manifests, where it is not that of the field or of the flag.
        repeatable: several texts are given by several options, not with commas between.
    """

    help: str
    panel: str = ""
    names: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    metavar: str | None = None
    envvar: str | None = None
    default_text: str | None = None
    argument: bool = False
    recorded: str = ""
    repeatable: bool = False


@dataclass(frozen=True)
class Declared:
    """An option as a settings dataclass declares it.

    Attributes:
        name: of the field.
        type: of the field, without its :class:`Option`.
        default: of the field; ``MISSING`` where a value is required.
        option: the rest.
        path: names of the groups that lead to the field, outermost first.
    """

    name: str
    type: Any
    default: Any
    option: Option
    path: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The option as a user types it: ``--max-length``."""
        return self.option.names[0] if self.option.names else f"--{self.name.replace('_', '-')}"

    @property
    def with_commas(self) -> bool:
        """Whether the value is several names with commas between."""
        return is_names(self.type) and not self.option.repeatable

    @property
    def parameter(self) -> str:
        """The option's name in Python, in ``--config`` and in studies: ``max_length``."""
        return parameter_name(self.name, self.option)


def declared(settings: type, path: tuple[str, ...] = ()) -> Iterator[Declared]:
    """Yield the options of a settings dataclass in field order, those of its groups in place.

    A field that is neither an option nor a group belongs to the library alone.
    """
    hints = get_type_hints(settings, include_extras=True)
    for field in fields(settings):
        hint = hints[field.name]
        option = option_of(hint)
        if option is not None:
            yield Declared(field.name, bare(hint), _default(field), option, path)
        elif is_dataclass(bare(hint)):
            yield from declared(bare(hint), (*path, field.name))


def parameter_name(field: str, option: Option) -> str:
    """Name the parameter of a field: its flag's own name, where it has one."""
    if not option.names:
        return field
    return option.names[0].split("/")[0].lstrip("-").replace("-", "_")


def option_of(hint: Any) -> Option | None:
    """Return the :class:`Option` of an annotation; None where it has none."""
    if get_origin(hint) is not Annotated:
        return None
    return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Option)), None)


def bare(hint: Any) -> Any:
    """Return a type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def is_names(kind: Any) -> bool:
    """Check for ``tuple[str, ...]`` (or None): on the command line names with commas between."""
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return tuple[str, ...] in choices


def _default(field: "Field[Any]") -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def build(settings: type, values: dict[str, Any], **extra: Any) -> Any:
    """Make a settings dataclass from one value per option, by name; groups are made with it.

    Args:
        settings: the dataclass.
        values: of every option, as parsed.
        extra: fields that are no options.

    Raises:
        UsageError: the dataclass refuses the values.
    """
    hints = get_type_hints(settings, include_extras=True)
    arguments: dict[str, Any] = {}
    for field in fields(settings):
        hint = hints[field.name]
        option = option_of(hint)
        if field.name in extra:
            arguments[field.name] = extra[field.name]
        elif option is not None:
            arguments[field.name] = values[parameter_name(field.name, option)]
        elif is_dataclass(bare(hint)):
            arguments[field.name] = build(bare(hint), values)
    return settings(**arguments)


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Split names with commas between; None stays None."""
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parameters(settings: type) -> set[str]:
    """Name the parameters of all options of settings."""
    return {option.parameter for option in declared(settings)}


def refuse_unread(typed: Collection[str], unread: Collection[str], meant_for: str) -> None:
    """Refuse parameters on the command line that change nothing here.

    Raises:
        UsageError: naming the first option, and what it is for.
    """
    if wrong := set(typed) & set(unread):
        raise UsageError(f"--{min(wrong).replace('_', '-')} is for {meant_for}")


def check_choice(flag: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is none of the choices, in the words used everywhere.

    Raises:
        UsageError: naming the option, the value and the choices.
    """
    known = list(choices)
    if value not in known:
        raise UsageError(f"{flag} {value}: choose one of {', '.join(known)}")


def differing(settings: Any) -> frozenset[str]:
    """Name the options of a settings object that do not have their default.

    In the Python API they stand for what a user has typed.
    """
    found = []
    for option in declared(type(settings)):
        owner = settings
        for name in option.path:
            owner = getattr(owner, name)
        if getattr(owner, option.name) != option.default:
            found.append(option.parameter)
    return frozenset(found)
