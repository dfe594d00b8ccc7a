"""Cleaning answers."""

import pytest

from trec_cli.summarize.clean import clean


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("  likes jazz \n and tea ", "likes jazz and tea"),
        ("Here is a summary of what the user likes:\n\nJazz and tea.", "Jazz and tea."),
        ("Sure! Here's the summary: Jazz.", "Jazz."),
        ("Summary: Jazz: the early years", "Jazz: the early years"),
        ("Updated summary:\n- jazz\n- tea", "jazz, tea"),
        ("1. jazz\n2) tea\n• Bix", "jazz, tea, Bix"),
        ("jazz - the early years", "jazz - the early years"),
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
