"""Prompt templates: text files with named slots like ``{items}``, checked when loaded."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from trec_cli.errors import InputError

_SLOT = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Template:
    """A prompt text with slots.

    Attributes:
        name: the file's name without ``.txt``.
        text: the text, ``{slot}`` where values go; other braces are plain text.
    """

    name: str
    text: str

    @property
    def slots(self) -> set[str]:
        """Names of the slots in the text."""
        return set(_SLOT.findall(self.text))

    @property
    def parts(self) -> list[str]:
        """Text, slot name, text, slot name, …, text: odd places are slot names."""
        return _SLOT.split(self.text)

    @property
    def continues(self) -> bool:
        """Whether the text ends in a colon, so that the answer continues its last line."""
        return self.text.endswith(":")

    def fill(self, **values: str) -> str:
        """Put values into the slots; braces inside a value are left alone."""
        return _SLOT.sub(lambda match: values[match[1]], self.text)


def load_template(
    name: str, slots: Iterable[str], folder: Path | None = None, domain: str = ""
) -> Template:
    """Load ``NAME.txt`` from the user's folder if it is there, else the built-in one.

    Args:
        name: for example ``recommend`` or ``summarize_block``.
        slots: the slots that the text must hold, exactly these.
        folder: the user's folder (``--prompts``).
        domain: the folder of built-in texts, where there is one per domain.

    Raises:
        InputError: a slot is missing or unknown, the file is not UTF-8 text, or the folder
            does not exist or holds a text that is no prompt.
    """
    if folder is not None:
        _check_names(folder)
    own = folder / f"{name}.txt" if folder else None
    if own is not None and own.is_file():
        try:
            text, place = own.read_text(encoding="utf-8-sig"), str(own)
        except UnicodeDecodeError:
            raise InputError.of(own, "is not UTF-8 text", "save it as UTF-8") from None
    else:
        text, place = _built_in(name, domain), f"{name}.txt"
    template = Template(name, text.rstrip("\n"))
    wrong = template.slots ^ set(slots)
    if wrong:
        needed = ", ".join(f"{{{slot}}}" for slot in sorted(slots))
        named = ", ".join(sorted(wrong))
        raise InputError.of(place, f"slots are wrong: {named}", f"it must hold exactly {needed}")
    return template


def _check_names(folder: Path) -> None:
    """Refuse a folder whose texts would be passed over in silence."""
    if not folder.is_dir():
        raise InputError.of(folder, "no such folder", "check --prompts")
    folders = [_templates(), *(entry for entry in _templates().iterdir() if entry.is_dir())]
    known = {file.name for entry in folders for file in entry.iterdir() if file.is_file()}
    strangers = sorted(file.name for file in folder.glob("*.txt") if file.name not in known)
    if strangers:
        fix = f"prompts are named {', '.join(sorted(known))}"
        raise InputError.of(folder / strangers[0], "is no prompt of trec", fix)


def _built_in(name: str, domain: str) -> str:
    return (_templates() / domain / f"{name}.txt").read_text(encoding="utf-8")


def _templates() -> Traversable:
    return resources.files("trec_cli.prompts") / "templates"
