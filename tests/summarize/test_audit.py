"""Adding up how good the summaries of a run are."""

import pytest

from trec_cli.core.records import Block, Item, Summary
from trec_cli.summarize.audit import Audit, final_flags

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
    audit = Audit(ITEMS)
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
    audit = Audit(ITEMS)
    assert audit.asdict()["faithfulness"] is None
    assert str(audit).startswith("none of content words and none of names")


def test_flags_are_those_of_the_block_whose_text_is_final() -> None:
    blocks = (("tea", ("cut",)), ("jazz", ("retried",)), ("", ("empty",)))
    assert final_flags(summary("jazz", *blocks)) == ("retried",)
    assert final_flags(summary("tea", *blocks)) == ("cut",)
    assert final_flags(summary("")) == ()
    audit = Audit(ITEMS)
    audit.add(summary("jazz", *blocks), [ITEMS["t"]])
    assert audit.asdict()["flags"] == {"retried": 1}
