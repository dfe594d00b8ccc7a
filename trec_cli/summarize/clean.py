"""Making an answer a summary: one line, without a preamble."""

import re

_BULLET = re.compile(r"\s*\n\s*(?:[-*•]|\d+[.)])\s+")
_PREAMBLE = re.compile(
    r"""^(?:
        (?:sure|certainly|of\ course|okay|ok)[!,.]\s+
      | (?:here(?:'s|\s+is|\s+are)|below\s+is|the\s+following\s+is|this\s+is)\b[^:\n]{0,120}:\s+
      | (?:(?:updated|combined|user)\s+)?(?:preference\s+)?(?:summary|answer)(?:\ is)?\s*:\s*
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def printable(text: str) -> str:
    """Put a blank in the place of every character that nobody can see."""
    return "".join(c if c.isprintable() or c.isspace() else " " for c in text)


def clean(text: str) -> str:
    """Put the answer on one line and take away what only introduces it.

    A bulleted or numbered list becomes a list with commas.  Control characters, half a
    character at the end (where the length limit cut it) and quotation marks around the whole
    are removed as well.  Whoever reads the summary (the merge prompt, the recommender) can
    then rely on one line.
    """
    rest = printable(text).rstrip("\ufffd").strip()
    while match := _PREAMBLE.match(rest):
        rest = rest[match.end() :]
    rest = _BULLET.sub(", ", "\n" + rest).removeprefix(", ")
    line = " ".join(rest.split())
    if len(line) > 1 and line[0] == line[-1] == '"' and line.count('"') == 2:
        line = line[1:-1].strip()
    return line
