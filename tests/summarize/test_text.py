"""Answers cleaned, split into phrases, cut back, and freed of what does not hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.summarize.text import Grounded, clean, cut_back, ground, phrases


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


def test_phrases_end_at_commas_that_a_blank_follows_and_at_full_stops() -> None:
    text = "Tea, 1,000 cups; jazz. They like Bix! 緑茶、紅茶"
    assert phrases(text) == ["Tea", "1,000 cups", "jazz.", "They like Bix!", "緑茶", "紅茶"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tea, jazz, kett", "tea, jazz"),
        ("The user likes tea. He also lik", "The user likes tea."),
        ("The user likes tea, jazz and wat", "The user likes tea"),
        ("green tea from Kyo", "green tea from"),
        ("tea", ""),
        ("tea, jazz.", "tea, jazz."),
        ("", ""),
    ],
)
def test_an_unfinished_end_is_cut_back(text: str, wanted: str) -> None:
    assert cut_back(text) == wanted


def holds(phrase: str) -> bool:
    return "x" not in phrase


def test_a_list_loses_phrases_without_support_and_repeated_ones() -> None:
    assert ground("tea, xenon, jazz, Teas, tea", holds) == Grounded("tea, jazz", 1)


def test_a_phrase_may_keep_its_beginning_where_two_words_are_left() -> None:
    assert ground("Madden NFL x31, Football x31", holds) == Grounded("Madden NFL", 2)


def test_a_number_alone_is_no_preference() -> None:
    assert ground("tea, 22, 7.5-10, 50 cups", holds) == Grounded("tea, 50 cups", 2)


def test_prose_stands_and_falls_with_its_first_phrase() -> None:
    text = "The user likes xenon, tea. They enjoy jazz, xenon, and tea."
    assert ground(text, holds) == Grounded("They enjoy jazz, and tea.", 3)


def test_prose_that_says_nothing_but_its_frame_goes() -> None:
    assert ground("This user enjoys many things, xenon.", holds).text == ""
    kept = "This user enjoys many things, including tea."
    assert ground(kept, holds).text == kept


def test_nothing_stays_nothing() -> None:
    assert ground("", holds) == Grounded("")
    assert ground("xenon. x!", holds).text == ""


@settings(max_examples=80)
@given(st.lists(st.sampled_from(["tea", "xenon", "black jazz", "日本", "The user likes x"])))
def test_what_is_left_holds_and_grounding_again_changes_nothing(parts: list[str]) -> None:
    once = ground(", ".join(parts), holds)
    assert holds(once.text)
    assert ground(once.text, holds) == Grounded(once.text)
