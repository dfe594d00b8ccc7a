"""Terms of texts, and texts that are safe to show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.text import counted, named, printable


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


@pytest.mark.parametrize(
    ("number", "written"), [(0, "0 users"), (1, "1 user"), (2, "2 users"), (1500, "1,500 users")]
)
def test_one_is_one_and_thousands_have_a_comma(number: int, written: str) -> None:
    assert counted(number, "user") == written


def test_a_plural_may_be_more_than_an_s() -> None:
    verbs = [counted(number, "history is", "histories are") for number in (1, 2)]
    assert verbs == ["1 history is", "2 histories are"]


@pytest.mark.parametrize(
    ("users", "written"),
    [
        (["u1"], "u1"),
        (["u1", "u2", "u3"], "u1, u2, u3"),
        ([f"u{n}" for n in range(1500)], "u0, u1, u2 and 1,497 more"),
    ],
)
def test_of_many_names_the_first_three_are_said(users: list[str], written: str) -> None:
    assert named(users) == written
