"""Making texts plain: lists joined, HTML taken out, entities written as characters."""

import ast
import html
import re
from contextlib import suppress

import msgspec

from trec_cli.core.jsonl import plain_value

_ELEMENTS = (
    "abbr|address|article|aside|big|blockquote|body|br|button|caption|center|cite|code|col|dd|del|"
    "div|dl|dt|em|embed|figure|font|footer|form|h[1-6]|head|header|hr|html|iframe|img|input|ins|"
    "label|li|link|main|map|meta|nav|noscript|object|ol|option|param|pre|samp|script|section|"
    "select|small|source|span|strike|strong|style|sub|sup|svg|table|tbody|td|textarea|tfoot|th|"
    "thead|title|tr|tt|ul|var|video|wbr"
)
"""Elements of HTML with names that nobody else puts between angle brackets."""
_LETTERS = r"[abipqsu](?:\s[^<>=]*=[^<>]*|\s*/)?>"
"""Elements of one letter: with attributes only where there is a value, ``<a href=…>``."""
_COMMENT = r"!--(?:(?!<!--).)*?-->"
_MARKUP = rf"/?(?:(?:{_ELEMENTS})(?:[\s/][^<>]*)?>|{_LETTERS})|{_COMMENT}"
_TAG = re.compile(f"<(?:{_MARKUP})", re.DOTALL | re.IGNORECASE)
_NO_TAG = re.compile(f"<(?!{_MARKUP})", re.DOTALL | re.IGNORECASE)
_PAGE_SCRIPT = ("aPageStart", "a-box-inner{", "(new Date()).getTime()")
"""Marks of a page's script or style sheet that was scraped in place of the text."""


NOTHING = frozenset({"None", "nan", "NaN", "null", "NULL", "<NA>"})
"""What programs write where there is no text."""


def meant(text: str) -> str:
    """Return a text, or nothing where it only says that there is none."""
    return "" if text.strip() in NOTHING else text


def plain_text(text: str) -> str:
    """Remove markup, entities and superfluous white space; cuts nothing off.

    What is no element of HTML stays as it is: ``5 < 6``, ``Cable <USB>``.  A
    page's script or style sheet, scraped in place of a title or price, gives nothing.
    """
    if "&" in text:
        text = html.unescape(text)
    if any(mark in text for mark in _PAGE_SCRIPT):
        return ""
    if _TAG.search(text):
        text = _without_markup(text)
    return " ".join(text.split())


def _without_markup(text: str) -> str:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(_NO_TAG.sub("&lt;", text), "html.parser")
    for element in soup(["script", "style"]):
        element.decompose()
    return soup.get_text(" ")


def plain_field(value: object, *, prose: bool = False) -> str:
    """Write any JSON value as plain text; a text that holds JSON counts as its value.

    ``prose`` joins the parts of a list by a blank (paragraphs of a description), not by
    a comma (names of categories).
    """
    value = _unpacked(value)
    if prose and isinstance(value, list):
        return plain_text(" ".join(filter(None, map(_plain_part, value))))
    return plain_text(_plain_part(value))


def _unpacked(value: object) -> object:
    """Decode a text that is a JSON object or list, or a Python list as pandas writes it."""
    if not isinstance(value, str) or value[:1] + value[-1:] not in ("{}", "[]"):
        return value
    found: object = None
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        found = ast.literal_eval(value)
        msgspec.json.encode(found)  # half a character cannot be written
    with suppress(msgspec.DecodeError, RecursionError):
        found = msgspec.json.decode(value)
    texts = isinstance(found, list) and all(isinstance(part, str | None) for part in found)
    return found if texts or isinstance(found, dict) else value


def _plain_part(value: object) -> str:
    """Write a value as text, parts that only say that there is none left out.

    Raises:
        ValueError: it is nested too deeply.
    """
    try:
        return plain_value(_meant_parts(value))
    except RecursionError:
        raise msgspec.ValidationError("a value is nested too deeply") from None


def _meant_parts(value: object) -> object:
    if isinstance(value, str):
        return meant(value)
    if isinstance(value, list):
        return list(map(_meant_parts, value))
    if isinstance(value, dict):
        return {name: _meant_parts(inner) for name, inner in value.items()}
    return value
