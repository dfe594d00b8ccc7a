"""Cleaning answers and spotting echoes."""

import pytest

from trec_cli.summarize.clean import clean, is_echo


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("  likes jazz \n and tea ", "likes jazz and tea"),
        ("Here is a summary of what the user likes:\n\nJazz and tea.", "Jazz and tea."),
        ("Sure! Here's the summary: Jazz.", "Jazz."),
        ("Summary: Jazz: the early years", "Jazz: the early years"),
        ("Updated summary:\n- jazz\n- tea", "- jazz - tea"),
        ('"This user likes jazz."', "This user likes jazz."),
        ('"Jazz" and "tea"', '"Jazz" and "tea"'),
        ("This user likes: jazz, tea", "This user likes: jazz, tea"),
        ("Sure-fire recipes, quick ones", "Sure-fire recipes, quick ones"),
        ("日本の茶\u0007と🍵\ufffd", "日本の茶 と🍵"),
        (" \n\t", ""),
        ("Summary:", ""),
    ],
)
def test_an_answer_becomes_one_line_without_preamble(raw: str, wanted: str) -> None:
    assert clean(raw) == wanted


def test_a_piece_of_the_prompt_is_an_echo_whatever_its_case_and_spaces() -> None:
    prompt = "A user liked:\n- title: Red  Wool Socks for Winter\n- title: Tea"
    assert is_echo("title: red wool socks for WINTER", prompt)


def test_words_of_its_own_or_very_few_words_are_no_echo() -> None:
    prompt = "- title: red wool socks for winter"
    assert not is_echo("This user likes red wool socks for winter", prompt)
    assert not is_echo("red wool socks", prompt)
    assert not is_echo("", prompt)
