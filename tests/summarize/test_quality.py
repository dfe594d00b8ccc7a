"""Measures of summaries, worked out by hand, and their sums over a run."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.core.records import Block, Item, Summary
from trec_cli.summarize.quality import (
    Measures,
    QualityAudit,
    coverage,
    final_flags,
    in_one,
    is_copy,
    is_echo,
    measure,
)
from trec_cli.summarize.quality import item_supports as supports
from trec_cli.summarize.text import content, named, stem

TEA = Item("t", {"title": "Green Tea from Kyoto, 100 bags", "brand": "Ippodo"})
KNIFE = Item("k", {"title": "Kitchen knives & boards", "brand": "Wüsthof"})


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("knives", "knive"),
        ("stories", "story"),
        ("cats", "cat"),
        ("glass", "glass"),
        ("bus", "bus"),
        ("boxes", "boxe"),
        ("heroes", "heroe"),
        ("s", "s"),
        ("茶", "茶"),
    ],
)
def test_a_plural_loses_its_ending(word: str, wanted: str) -> None:
    assert stem(word) == wanted


def test_function_and_frame_words_are_no_content() -> None:
    assert content("The user is interested in a variety of products, such as teas") == ["tea"]


def test_names_are_words_with_a_capital_or_a_digit() -> None:
    assert named("This user likes tea from Kyoto, 100 bags, PlayStation-4 and iPhone") == [
        "kyoto",
        "100",
        "playstation",
        "4",
    ]


def test_faithfulness_is_the_share_of_content_words_that_stand_in_the_items() -> None:
    # content: green, tea, kyoto, osaka, kitchen, knive; all but osaka stand there.
    found = measure(
        "The user likes green teas from Kyoto, Osaka, and kitchen knives.", [TEA, KNIFE]
    )
    assert (found.content, found.content_found) == (6, 5)
    assert (found.named, found.named_found) == (2, 1)
    # "The user likes green teas from Kyoto" and "and kitchen knives" hold, "Osaka" does not.
    assert (found.phrases, found.phrases_found) == (3, 2)
    assert found.shares()["faithfulness"] == pytest.approx(5 / 6, abs=1e-4)


def test_a_text_without_content_has_no_faithfulness() -> None:
    assert measure("The user likes many items.", [TEA]).faithfulness is None
    assert measure("", [TEA]).empty == 1
    assert measure(" . ", [TEA]).empty == 1


def test_repetition_is_the_share_of_three_words_in_a_row_seen_before() -> None:
    # a b c, b c a, c a b, a b c: the last is a repetition.
    found = measure("a b c a b c", [])
    assert (found.ngrams, found.ngrams_repeated) == (4, 1)


def test_texts_without_blanks_are_measured_too() -> None:
    item = Item("j", {"title": "日本の緑茶"})
    assert measure("緑茶", [item]).faithfulness == 1.0
    assert measure("紅茶", [item]).faithfulness == 0.5


def test_a_phrase_must_stand_in_one_item_or_on_each_side_of_its_and() -> None:
    both = supports([TEA, KNIFE])
    assert in_one("tea from Kyoto", both)
    assert not in_one("tea knives", both)
    assert in_one("tea and knives", both)
    assert in_one("Kitchen knives & boards", both)
    assert not in_one("tea and coffee", both)
    assert not in_one("...", both)


def test_an_echo_holds_five_words_of_the_prompts_own_text() -> None:
    prompt = "Describe in one or two sentences what this user likes.\nItems:"
    assert is_echo("In one or two sentences: tea", prompt)
    assert not is_echo("what this user likes: tea", prompt)


def test_a_copy_is_a_piece_of_a_text_whatever_its_case_and_marks() -> None:
    prompt = "A user liked:\n- title: Red  Wool Socks for Winter\n- title: Tea"
    assert is_copy("title: red wool socks for WINTER!", prompt)
    assert not is_copy("This user likes red wool socks for winter", prompt)
    assert not is_copy("red wool socks", prompt)
    assert not is_copy("ed wool socks for winter ti", prompt)
    assert not is_copy("", prompt)


def test_coverage_weighs_brands_by_how_many_items_have_them() -> None:
    items = [TEA, TEA, KNIFE, Item("x", {"title": "no brand"})]
    assert coverage("tea by Ippodo", items, ("category", "brand")) == pytest.approx(2 / 3)
    assert coverage("wüsthof, Ippodo", items, ("brand",)) == 1.0
    assert coverage("anything", [Item("x", {"title": "Ippodo"})], ("brand",)) is None


@settings(max_examples=60)
@given(st.text(max_size=80), st.text(max_size=80))
def test_what_an_item_says_is_always_supported_by_it(title: str, other: str) -> None:
    items = [Item("a", {"title": title}), Item("b", {"title": other})]
    found = measure(title, items)
    assert found.content_found == found.content
    assert found.phrases_found == found.phrases
    assert found + Measures() == found


ITEMS = {
    "t": Item("t", {"title": "Green tea", "brand": "Ippodo"}),
    "k": Item("k", {"title": "Kitchen knife", "brand": "Zwilling"}),
}


def summary(text: str, *blocks: tuple[str, tuple[str, ...]]) -> Summary:
    made = [Block(level=0, start=0, end=1, summary=each, flags=flags) for each, flags in blocks]
    return Summary(
        example_id="e",
        user_id="u",
        split="test",
        mode="hier",
        summary=text,
        blocks=made,
        model="m",
    )


def test_measures_are_summed_over_words_and_coverage_over_users() -> None:
    audit = QualityAudit(ITEMS)
    texts = ["Ippodo, green tea", "Kitchen knife, chess, opera", ""]
    histories = [["t", "k"], ["k"], []]
    given = [summary(text) for text in texts]
    assert list(audit.watch(given, histories)) == given
    told = audit.asdict()
    # 3 of 3 and 2 of 4 content words; brands: 1 of 2 and 0 of 1; no history is no text.
    assert told["faithfulness"] == pytest.approx(5 / 7, abs=1e-4)
    assert (told["summaries"], told["coverage"], told["words"]) == (2, 0.25, 3.5)
    assert "71 % of content words" in str(audit)
    assert "25 % of categories or brands" in str(audit)


def test_nothing_to_measure_is_said_as_none() -> None:
    audit = QualityAudit(ITEMS)
    assert audit.asdict()["faithfulness"] is None
    assert str(audit).startswith("none of content words and none of names")


def test_flags_are_those_of_the_block_whose_text_is_final() -> None:
    blocks = (("tea", ("cut",)), ("jazz", ("retried",)), ("", ("empty",)))
    assert final_flags(summary("jazz", *blocks)) == ("retried",)
    assert final_flags(summary("tea", *blocks)) == ("cut",)
    assert final_flags(summary("")) == ()
    audit = QualityAudit(ITEMS)
    audit.add(summary("jazz", *blocks), [ITEMS["t"]])
    assert audit.asdict()["flags"] == {"retried": 1}
