"""Settings that differ from those of an output that is there: in whose words they are told."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from trec_cli.core.options import Declared
from trec_cli.core.text import NOT_GIVEN, setting_text

_HASH = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True)
class Change:
    """One setting that differs.

    Attributes:
        name: as the manifest has it; within a table ``TABLE.NAME``.
        old, new: its values; ``UNSET`` where a manifest does not have it.
        words: say of old and new which is which.
    """

    name: str
    old: Any
    new: Any
    words: tuple[str, str] = ("before", "now")

    def __str__(self) -> str:
        """Write it by its name, as manifests and the Python API have it."""
        if self.is_hash:
            return f"{self.name}: other content {self.words[1]}"
        return f"{self.name}: {self._both(setting_text(self.old), setting_text(self.new))}"

    @property
    def is_hash(self) -> bool:
        """Whether its values are hashes, which would tell nobody anything."""
        return all(isinstance(v, str) and _HASH.fullmatch(v) for v in (self.old, self.new))

    def typed(self, option: Declared) -> str:
        """Write it as the option that a user types."""
        if yes_no := _yes_no(option):
            return self._both(*(_choice(value, yes_no) for value in (self.old, self.new)))
        flag = option.flag.partition("/")[0]
        return f"{flag} {self._both(*(_value(value, option) for value in (self.old, self.new)))}"

    def _both(self, old: str, new: str) -> str:
        return f"{old} {self.words[0]}, {new} {self.words[1]}"


def as_typed(changes: Iterable[object], options: Sequence[Declared]) -> list[str]:
    """Write changes in the words of a command line; what is no :class:`Change` stays as it is.

    What is worked out of options (parts of tables, such as how a model writes) is left out where
    an option is named, and so is an option that has taken the value of another one.
    """
    pairs = [(c, _option(c, options) if isinstance(c, Change) else None) for c in changes]
    values = {o.flag: (c.old, c.new) for c, o in pairs if isinstance(c, Change) and o}
    told = [
        change.typed(option) if option and isinstance(change, Change) else str(change)
        for change, option in pairs
        if not isinstance(change, Change) or not _follows(change, option, values)
    ]
    return list(dict.fromkeys(told))


def _follows(
    change: Change, option: Declared | None, values: Mapping[str, tuple[Any, Any]]
) -> bool:
    """Check for what differs because an option does, of which ``values`` has old and new."""
    if option is None:
        return bool(values) and "." in change.name
    return values.get(option.option.default_text or "") == (change.old, change.new)


def _option(change: Change, options: Sequence[Declared]) -> Declared | None:
    """Find the option that a setting is; None where it is none, or a hash of what one names."""
    table, _, name = change.name.rpartition(".")
    if change.is_hash:
        return None
    if table and name == "name":  # a model is recorded by its name
        return next((o for o in options if o.parameter == table), None)
    fields = [o for o in options if o.name == name]
    if table:
        return next(iter(fields), None)
    named = [o for o in options if o.option.recorded == name]
    return next(iter([*named, *(o for o in options if o.parameter == name), *fields]), None)


def _yes_no(option: Declared) -> tuple[str, str] | None:
    """Return both flags of an option that has two."""
    yes, _, no = option.flag.partition("/")
    if not no and option.default is True:
        no = f"--no-{yes.removeprefix('--')}"
    return (yes, no) if no else None


def _choice(value: Any, flags: tuple[str, str]) -> str:
    return flags[0 if value else 1] if isinstance(value, bool) else NOT_GIVEN


def _value(value: Any, option: Declared) -> str:
    """Write the value of an option; manifests leave some defaults out."""
    if isinstance(value, bool):
        return "given" if value else NOT_GIVEN
    if value is UNSET and isinstance(option.default, int | float | str) and option.default:
        return "default"
    return setting_text(value)
