"""Prompt templates: text files with named slots like ``{items}``, checked when loaded."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from trec_cli.core.errors import InputError

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
        """Write values into the slots; braces inside a value are left alone."""
        return _SLOT.sub(lambda match: values[match[1]], self.text)


def load_template(
    name: str, slots: Iterable[str], folder: Path | None = None, domain: str = ""
) -> Template:
    """Load ``NAME.txt`` from the user's folder if it is there, else the built-in one.

    In the user's folder ``DOMAIN/NAME.txt`` holds for one domain and comes before
    ``NAME.txt``, which holds for all.

    Args:
        name: for example ``recommend`` or ``summarize_block``.
        slots: the slots that the text must hold, exactly these, each once.
        folder: the user's folder (``--prompts``).
        domain: the folder of texts, where there is one per domain.

    Raises:
        InputError: a slot is missing, unknown or there twice, the file is not UTF-8 text, or
            the folder does not exist or holds a text that is no prompt.
    """
    if folder is not None:
        _check_names(folder)
    own = _own(folder, name, domain) if folder else None
    if own is not None:
        try:
            text, place = own.read_text(encoding="utf-8-sig"), str(own)
        except UnicodeDecodeError:
            raise InputError.of(own, "is not UTF-8 text", "save it as UTF-8") from None
    else:
        text, place = _built_in(name, domain), f"{name}.txt"
    template = Template(name, text.rstrip("\n"))
    _check_slots(template, place, sorted(slots))
    return template


def _check_slots(template: Template, place: str, slots: Sequence[str]) -> None:
    """Refuse a text that does not hold exactly these slots, each once."""
    found = template.parts[1::2]
    needed = ", ".join(f"{{{slot}}}" for slot in slots)
    if wrong := set(found) ^ set(slots):
        named = ", ".join(sorted(wrong))
        raise InputError.of(place, f"slots are wrong: {named}", f"it must hold exactly {needed}")
    if twice := sorted({slot for slot in found if found.count(slot) > 1}):
        named = ", ".join(f"{{{slot}}}" for slot in twice)
        raise InputError.of(place, f"holds {named} more than once", "each slot stands once")


def _own(folder: Path, name: str, domain: str) -> Path | None:
    """Find a text of the user's: the one for the domain, else the one for all."""
    places = ([folder / domain] if domain else []) + [folder]
    found = (place / f"{name}.txt" for place in places)
    return next((file for file in found if file.is_file()), None)


def _check_names(folder: Path) -> None:
    """Refuse a folder whose texts would be passed over in silence."""
    if not folder.is_dir():
        raise InputError.of(folder, "no such folder", "check --prompts")
    domains = [entry for entry in _templates().iterdir() if entry.is_dir()]
    inside = {file.name for entry in domains for file in entry.iterdir() if file.is_file()}
    known = inside | {file.name for file in _templates().iterdir() if file.is_file()}
    names = sorted(entry.name for entry in domains)
    strangers = [file for file in folder.glob("*.txt") if file.name not in known]
    for file in folder.glob("*/*.txt"):
        is_domain = file.parent.name in names
        if file.name not in inside if is_domain else file.name in known:
            strangers.append(file)
    if strangers:
        fix = (
            f"prompts are named {', '.join(sorted(known))}; those of one domain lie in a folder "
            f"named {', '.join(names)}"
        )
        raise InputError.of(min(strangers), "is no prompt of trec", fix)


def _built_in(name: str, domain: str) -> str:
    return (_templates() / domain / f"{name}.txt").read_text(encoding="utf-8")


def _templates() -> Traversable:
    return resources.files("trec_cli.prompts") / "templates"
