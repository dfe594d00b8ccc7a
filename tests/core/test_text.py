"""Terms of texts, and texts that are safe to show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï 北京 🎸", "plain, ünï 北京 🎸"),
        ("\x1b[2Jgone", "␛[2Jgone"),
        ("\x1b]52;c;ZXZpbA==\x07", "␛]52;c;ZXZpbA==␇"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x9b31m\u202e", "\ufffd31m\ufffd"),
        ("\r\x00", "␍␀"),
        ("a\u2028b", "a b"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_what_is_shown_can_be_printed_and_keeps_its_length(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert len(shown) == len(text)
    assert printable(shown) == shown
