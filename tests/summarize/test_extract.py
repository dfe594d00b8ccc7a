"""The deterministic summary."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.core.records import Item
from trec_cli.summarize.extract import extend, extract, shared_parts, short_title
from trec_cli.summarize.prompts import SourceTexts


def words(text: str) -> int:
    """Count a word, and a comma, as a token."""
    return len(text.replace(",", " ,").split())


def item(title: str, **more: str) -> Item:
    return Item(title, {"title": title, **more})


SHOP = (
    item("Red wool socks, pack of two", brand="Falke"),
    item("Green tea - 100 bags", brand="Ippodo"),
    item("Blue wool socks", brand="Falke"),
)


def test_brands_by_frequency_then_titles_the_newest_first() -> None:
    wanted = "Falke, Ippodo, Blue wool socks, Green tea - 100 bags, Red wool socks"
    assert extract(SourceTexts(SHOP), 99, words) == wanted


def test_a_title_beyond_a_third_of_the_budget_or_with_a_comma_ends_early() -> None:
    # "Green tea - 100 bags" is 5: a third of 15, but more than a third of 14.
    names = "Ippodo, Falke"
    assert (
        extract(SourceTexts(SHOP[:2]), 15, words)
        == f"{names}, Green tea - 100 bags, Red wool socks"
    )
    assert extract(SourceTexts(SHOP[:2]), 14, words) == f"{names}, Green tea, Red wool socks"


def test_more_than_four_kinds_come_behind_the_titles() -> None:
    items = tuple(item(f"{letter} title", brand=f"brand{letter}") for letter in "ABCDE")
    titles = "E title, D title, C title, B title, A title"
    wanted = f"brandE, brandD, brandC, brandB, {titles}, brandA"
    assert extract(SourceTexts(items), 99, words) == wanted


def test_control_characters_of_items_reach_no_summary() -> None:
    items = (item("nul\x00bell \x07 tea", category="ja\u2028zz\x1b[31m"),)
    assert extract(SourceTexts(items), 99, words) == "ja zz [31m, nul bell tea"


def test_what_does_not_fit_is_passed_over_for_what_does() -> None:
    # Falke , Ippodo are 3; ", Blue wool socks" would make 7, ", Green tea" makes 6.
    assert extract(SourceTexts(SHOP), 6, words) == "Falke, Ippodo, Green tea"


def test_equally_frequent_kinds_stand_newest_first() -> None:
    items = (item("a b", category="tea"), item("c d", category="jazz"))
    assert extract(SourceTexts(items), 3, words) == "jazz, tea"


def test_the_finest_kind_counts() -> None:
    news = (item("Vote today", category="news", subcategory="newspolitics"),)
    assert extract(SourceTexts(news), 99, words) == "newspolitics, Vote today"


def test_a_merge_names_kinds_and_takes_from_titles_and_summaries_in_turn() -> None:
    source = SourceTexts(SHOP, ("old one, tea", "jazz, socks. Tea", "new"))
    turns = "Blue wool socks, new, jazz, old one, Green tea - 100 bags, Red wool socks"
    assert extract(source, 99, words) == f"Falke, Ippodo, {turns}"


def test_an_update_takes_from_the_newest_items_and_the_summary_in_turn() -> None:
    source = SourceTexts(SHOP, ("jazz, wool",), new=1)
    wanted = "Falke, Ippodo, Blue wool socks, jazz, Green tea - 100 bags, Red wool socks"
    assert extract(source, 99, words) == wanted


def test_a_text_is_extended_by_kinds_it_lacks_and_titles_it_has_less_than_half_of() -> None:
    # It has two of three words of "Blue wool socks", and none of the tea.
    wanted = "wool socks, Falke, Ippodo, Green tea - 100 bags"
    assert extend("wool socks", SourceTexts(SHOP), 99, words) == wanted
    assert extend("They like Falke.", SourceTexts(SHOP), 6, words) == "They like Falke. Ippodo"
    assert extend("wool socks", SourceTexts(SHOP), 3, words) == "wool socks"


def test_a_merge_is_extended_by_phrases_it_lacks() -> None:
    source = SourceTexts(SHOP, ("red hat, tea", "jazz"))
    wanted = "tea, socks, Falke, Ippodo, Blue wool socks, jazz, red hat"
    assert extend("tea, socks", source, 16, words) == wanted


GAMES = (
    item("Halo 3 - Xbox 360"),
    item("Fable: The Journey (Xbox 360)"),
    item("Fable III - PC"),
    item("Fable - PC, used"),
)


def test_items_without_kinds_have_those_of_their_titles() -> None:
    assert shared_parts(GAMES) == ["Fable", "PC", "Xbox 360"]
    assert shared_parts(GAMES[:1]) == []
    wanted = "Xbox 360, Fable, Halo 3 - Xbox 360, Fable - PC, Fable: The Journey (Xbox 360)"
    assert extract(SourceTexts((GAMES[1], GAMES[3], GAMES[0])), 99, words) == wanted


def test_a_merge_begins_with_what_only_all_blocks_together_have_in_common() -> None:
    source = SourceTexts(GAMES, ("Halo 3, shooters", "Fable III"))
    wanted = "Fable, PC, Xbox 360, Fable III, Halo 3, shooters"
    assert extract(source, 16, words) == wanted


def test_a_first_phrase_that_is_too_long_is_cut_at_a_word_or_inside_it() -> None:
    assert extract(SourceTexts((item("one two three four"),)), 2, words) == "one two"
    assert extract(SourceTexts((item("Donaudampfschiff"),)), 5, len) == "Donau"
    assert extract(SourceTexts(), 5, words) == ""


@pytest.mark.parametrize(
    ("title", "wanted"),
    [
        ("Gears of War 4 - Ultimate Edition", "Gears of War 4"),
        ("Fire Emblem: The Sacred Stones", "Fire Emblem"),
        ("Halo: Reach", "Halo: Reach"),
        ("Glue, wood (Pack of 2)", "Glue, wood"),
        ("1-800 Flowers", "1-800 Flowers"),
        ("", ""),
    ],
)
def test_a_title_ends_where_its_description_begins(title: str, wanted: str) -> None:
    assert short_title(title) == wanted


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=6), st.lists(st.text(max_size=30), max_size=3))
def test_it_fits_and_is_never_empty_where_there_is_anything_to_say(
    titles: list[str], summaries: list[str]
) -> None:
    items = tuple(item(title) for title in titles)
    text = extract(SourceTexts(items, tuple(summaries)), 9, len)
    assert len(text) <= 9
    if not summaries and any("a" in title for title in titles):
        assert text
