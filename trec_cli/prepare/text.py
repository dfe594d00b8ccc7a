"""Making texts plain: lists joined, HTML taken out, entities written as characters."""

import html
import re

from trec_cli.core.jsonl import plain_value

_TAG = re.compile(r"<(?:/?[a-zA-Z][^<>]*|!--.*?--)>", re.DOTALL)
_PAGE_SCRIPT = ("aPageStart", "a-box-inner{", "getTime()")
"""Marks of a page's script or style sheet that was scraped in place of the text."""


def plain_text(text: str) -> str:
    """Take out markup, entities and superfluous white space; cuts nothing off.

    Text without markup never meets the HTML parser, so ``5 < 6`` stays as it is.  A
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

    soup = BeautifulSoup(text, "html.parser")
    for element in soup(["script", "style"]):
        element.decompose()
    return soup.get_text(" ")


def plain_field(value: object, *, prose: bool = False) -> str:
    """Write any JSON value as plain text.

    ``prose`` joins the parts of a list by a blank (paragraphs of a description), not by
    a comma (names of categories).
    """
    if prose and isinstance(value, list):
        return plain_text(" ".join(filter(None, map(plain_value, value))))
    return plain_text(plain_value(value))
