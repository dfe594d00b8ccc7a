"""Mode attention in the library: which block summaries speak, scripted and worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest

from tests.summarize.helpers import ScriptedEngine, make_asker, make_writer, tokenizer
from trec_cli.core.records import Attention, Block, Example, Item, Key
from trec_cli.models.vectors import ItemVectors
from trec_cli.summarize.attention import Attender, joined, named_items
from trec_cli.summarize.modes import Result
from trec_cli.summarize.prompts import PromptWriter, frame_for, load_templates
from trec_cli.summarize.run import summarize
from trec_cli.summarize.settings import AttentionSettings, SummarySettings
from trec_cli.summarize.text import phrases

NAMES = ["tea", "pot", "jazz", "violin", "cup"]
ITEMS = {name: Item(name, {"title": f"{name} 鮨"}) for name in NAMES}
VECTORS = ItemVectors(
    {name: row for row, name in enumerate(NAMES)},
    np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0.6, 0.8]], np.float32),
)


def example(history: list[str], candidates: tuple[str, ...] = ("cup", "tea")) -> Example:
    return Example(
        example_id="e",
        user_id="u",
        split="test",
        history=history,
        candidates=list(candidates),
        positives=[candidates[0]],
    )


def attend(history: list[str], answers: list[str], **settings: Any) -> tuple[str, Attention]:
    """Summarise one history in blocks of two; give summary and attention."""
    writer = make_writer(SummarySettings(block_size=2), ITEMS)
    chosen = AttentionSettings(**{"query_items": 1, "budget": 500, **settings})
    attender = Attender(VECTORS, chosen, writer)
    ask = make_asker(ScriptedEngine(answers)).ask
    (record,) = summarize([example(history)], "attention", writer, ask, "m", attender)
    assert record.attention is not None
    return record.summary, record.attention


HISTORY = ["tea", "pot", "jazz", "violin", "jazz", "tea"]  # the last tea asks


def test_blocks_near_to_what_was_chosen_last_speak_in_time_order() -> None:
    summary, attention = attend(HISTORY, ["likes tea.", "likes jazz", "both"], top_k=2)
    # Keys: east, north, and north (without the item that asks); of equal ones the newer.
    e = math.exp(10)
    assert attention.weights == pytest.approx([e / (e + 2), 1 / (e + 2), 1 / (e + 2)], abs=1e-6)
    assert attention.keys == [Key(start=n, end=n + 2) for n in (0, 2, 4)]
    assert summary == "likes tea. both"  # there was budget left for the second


def test_a_low_weight_gets_nothing_of_a_small_budget() -> None:
    long = "likes tea and pots and cups and kettles of all kinds"
    summary, _ = attend(HISTORY, [long, "jazz", "both of them " * 9], top_k=2, budget=20)
    assert long.startswith(summary)
    assert summary


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_a_budget_below_what_stands_between_texts_is_kept(budget: int) -> None:
    texts = ["likes tea and pots", "likes jazz and more", "likes both of them"]
    summary, _ = attend(HISTORY, texts, top_k=3, temperature=1e6, budget=budget)
    assert summary
    assert make_writer(SummarySettings(), ITEMS).tokens(summary) <= budget


def test_a_high_temperature_lets_all_speak_and_of_equal_ones_the_newest() -> None:
    summary, _ = attend(HISTORY, ["one", "two", "three"], top_k=2, temperature=1e6)
    assert summary == "one; three"


def test_the_budget_cuts_by_weight() -> None:
    texts = ["a b c d e f g h i j k l m n o p q r s t", "z y x w v u t s r q p o n m l k j i h g"]
    history = ["tea", "pot", "pot", "tea", "jazz"]
    writer = make_writer(SummarySettings(block_size=2), ITEMS)
    summary, _ = attend(history, [*texts, "last"], top_k=2, temperature=1e6, budget=21)
    first, second = summary.split("; ")
    assert texts[0].startswith(first)
    assert texts[1].startswith(second)
    # Ten tokens each, of which the last word, which might be half of one, is left out.
    assert all(7 <= writer.tokens(text) <= 9 for text in (first, second))


def test_a_list_is_cut_behind_a_whole_phrase() -> None:
    text = "green tea, porcelain teapots, violin concertos"
    tokens = make_writer(SummarySettings(), ITEMS).tokens(
        "green tea, porcelain teapots, violin con"
    )
    summary, _ = attend(["tea", "pot"], [text], budget=tokens)
    assert summary == "green tea, porcelain teapots"


def test_what_whole_phrases_leave_of_a_lists_budget_is_filled_with_others() -> None:
    frame = frame_for(tokenizer(), load_templates("products"), None)
    writer = PromptWriter(tokenizer(), frame, ITEMS, SummarySettings(domain="products"))
    lists = ["old violin concertos, tea", "porcelain of the last century, jazz"]
    blocks = [Block(level=0, start=2 * n, end=2 * n + 2, summary=t) for n, t in enumerate(lists)]
    budget = writer.tokens("old violin concertos; jazz, tea")
    chosen = AttentionSettings(query_items=1, budget=budget, top_k=2, temperature=1e6)
    result = Attender(VECTORS, chosen, writer)(example(HISTORY[:5]), Result("", blocks))
    assert writer.tokens(result.summary) <= budget
    # Both lists were cut in their first phrase.
    assert phrases(result.summary)[-1] in ("jazz", "tea")


def test_an_empty_block_summary_never_speaks() -> None:
    summary, attention = attend(["tea", "pot", "jazz", "violin", "tea"], ["", "jazz", ""])
    assert summary == "jazz"
    assert attention.weights == [0.0, 1.0, 0.0]
    nothing, _ = attend(["tea", "pot"], [""])
    assert nothing == ""


def test_candidates_look_for_themselves() -> None:
    _, attention = attend(
        ["tea", "pot", "jazz", "violin"], ["a", "b"], query="candidate", temperature=0.2
    )
    cup = math.exp(0.6 / 0.2), math.exp(0.8 / 0.2)
    tea = math.exp(1 / 0.2), 1.0
    rows = attention.candidates
    assert [[place for place, _ in row] for row in rows] == [[1, 0], [0, 1]]
    assert rows[0][0][1] == pytest.approx(cup[1] / sum(cup), abs=1e-5)
    assert rows[1][0][1] == pytest.approx(tea[0] / sum(tea), abs=1e-5)


def test_texts_on_one_line() -> None:
    assert joined(["a.", "b", "", "c!", "d"]) == "a. b; c! d"
    assert joined([]) == ""


def test_only_what_is_needed_is_embedded() -> None:
    asked = [example(["tea", "pot", "tea"]), example([], ("jazz", "tea"))]
    assert named_items(asked, "recent") == ["tea", "pot"]
    assert named_items(asked, "candidate") == ["tea", "pot", "cup", "jazz"]
