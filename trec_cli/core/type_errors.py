"""What msgspec says of a mistyped field, in the words of someone who writes the file."""

import re

_WORDS = {
    "object": "an object {…}",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`(?:, got `(?P<got>[^`]+)`)?(?P<bound>.*)")
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>[^\]]*)\]")


def in_words(message: str) -> str:
    """Rewrite a message of msgspec; one that is not known stays as it is.

    ``Expected `array`, got `str` - at `$.history` `` becomes
    ```history` must be a list, not a text``.
    """
    said, _, path = message.partition(" - at ")
    place = _place(path.strip("`"))
    if found := re.fullmatch(r"Object missing required field (`.+`)", said):
        return f"the field {found[1]} is missing" + (f" in {place}" if place else "")
    place = place or "the line"
    if found := re.fullmatch(r"Invalid enum value (.+)", said):
        return f"{place} cannot be {found[1]}"
    if found := _TYPE.fullmatch(said):
        return f"{place} must {_demand(found)}"
    return message


def _place(path: str) -> str:
    """Name ``$.blocks[0].level`` from its end: `level` in entry 1 of `blocks`."""
    named = ""
    for step in _STEP.finditer(path.removeprefix("$")):
        if step["name"]:
            named = f"`{step['name']}`" + (f" in {named}" if named else "")
        else:
            index = step["index"]
            entry = f"entry {int(index) + 1}" if index.isdecimal() else "an entry"
            named = f"{entry} of {named or 'the line'}"
    return named


def _demand(found: re.Match[str]) -> str:
    """Describe what a value must be."""
    if found["got"]:
        return f"be {_words(found['wanted'])}, not {_words(found['got'])}"
    if found["bound"].startswith(" of length >="):
        return "not be empty"
    return f"be {_words(found['wanted'])}{found['bound']}"


def _words(types: str) -> str:
    """Write ``str | null`` as "a text or null"."""
    return " or ".join(_WORDS.get(name, name) for name in types.split(" | "))
