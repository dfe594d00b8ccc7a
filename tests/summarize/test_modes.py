"""Call trees of both modes, worked out by hand with a scripted engine."""

import pytest

from tests.summarize.helpers import (
    ScriptedEngine,
    history,
    make_asker,
    make_writer,
    narrow_writer,
)
from trec_cli.core.records import Block
from trec_cli.summarize.modes import Summarizer, summarize_hierarchical, summarize_recurrent


def shape(blocks: list[Block]) -> list[tuple[int, int, int, str]]:
    return [(b.level, b.start, b.end, b.summary) for b in blocks]


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("run", [summarize_hierarchical, summarize_recurrent])
def test_one_block_needs_one_call(length: int, run: Summarizer) -> None:
    engine = ScriptedEngine(["likes tea"])
    [result] = run([history(length)], make_writer(), make_asker(engine).ask)
    assert result.summary == "likes tea"
    assert shape(result.blocks) == [(0, 0, length, "likes tea")]
    assert engine.sizes == [1]


@pytest.mark.parametrize("run", [summarize_hierarchical, summarize_recurrent])
def test_an_empty_history_has_an_empty_summary_without_a_call(run: Summarizer) -> None:
    engine = ScriptedEngine()
    [result] = run([[]], make_writer(), make_asker(engine).ask)
    assert (result.summary, result.blocks, engine.asked) == ("", [], [])


def test_twenty_six_items_are_six_blocks_and_one_merge_where_all_fit() -> None:
    engine = ScriptedEngine("abcdefg")
    [result] = summarize_hierarchical([history(26)], make_writer(), make_asker(engine).ask)
    assert shape(result.blocks) == [
        (0, 0, 5, "a"),
        (0, 5, 10, "b"),
        (0, 10, 15, "c"),
        (0, 15, 20, "d"),
        (0, 20, 25, "e"),
        (0, 25, 26, "f"),
        (1, 0, 26, "g"),
    ]
    assert engine.sizes == [6, 1]
    assert "\n- a\n- b\n- c\n- d\n- e\n- f\n" in engine.asked[-1].message


def test_where_two_summaries_fit_six_are_merged_in_three_levels() -> None:
    # a b c d e f -> ab cd ef -> abcd (ef moves up) -> all
    words = [letter * 40 for letter in "abcdefghijk"]
    a, b, c, d, e, f, ab, cd, ef, abcd, every = words
    engine = ScriptedEngine(words)
    writer = narrow_writer(summary_tokens=10, block_size=2, item_tokens=16)
    [result] = summarize_hierarchical([history(12)], writer, make_asker(engine).ask)
    assert shape(result.blocks) == [
        *[(0, 2 * n, 2 * n + 2, text) for n, text in enumerate([a, b, c, d, e, f])],
        (1, 0, 4, ab),
        (1, 4, 8, cd),
        (1, 8, 12, ef),
        (2, 0, 8, abcd),
        (3, 0, 12, every),
    ]
    assert result.summary == every
    assert engine.sizes == [6, 3, 1, 1]


def test_any_length_of_history_ends_in_one_summary() -> None:
    words = [f"{n:03d} " + "long " * 40 for n in range(59)]
    writer = narrow_writer(summary_tokens=10, block_size=2, item_tokens=16)
    [result] = summarize_hierarchical([history(60)], writer, make_asker(ScriptedEngine(words)).ask)
    # 30 blocks: 15, 7, 4, 2 and 1 merges, always of two neighbours.
    assert sum(block.level == 0 for block in result.blocks) == 30
    assert len(result.blocks) == 59
    assert (result.blocks[-1].start, result.blocks[-1].end) == (0, 60)


def test_users_go_together_level_by_level() -> None:
    engine = ScriptedEngine("abcdefgh")
    histories = [history(7), [], ["i30"], ["i31", *history(6)]]
    results = summarize_hierarchical(histories, make_writer(), make_asker(engine).ask)
    assert engine.sizes == [5, 2]
    assert [result.summary for result in results] == ["f", "", "c", "g"]


def test_an_empty_block_summary_is_left_out_of_the_merge() -> None:
    engine = ScriptedEngine(["a", "", "c", "all"])
    [result] = summarize_hierarchical([history(11)], make_writer(), make_asker(engine).ask)
    assert "\n- a\n- c\n" in engine.asked[-1].message
    assert [block.summary for block in result.blocks] == ["a", "", "c", "all"]


def test_where_one_block_has_a_summary_it_is_the_final_one() -> None:
    engine = ScriptedEngine(["", "b"])
    [result] = summarize_hierarchical([history(6)], make_writer(), make_asker(engine).ask)
    assert (result.summary, len(engine.asked)) == ("b", 2)


def test_recurrent_carries_the_summary_through_every_block() -> None:
    engine = ScriptedEngine("abcdef")
    [result] = summarize_recurrent([history(26)], make_writer(), make_asker(engine).ask)
    assert shape(result.blocks) == [
        (0, 0, 5, "a"),
        (1, 0, 10, "b"),
        (2, 0, 15, "c"),
        (3, 0, 20, "d"),
        (4, 0, 25, "e"),
        (5, 0, 26, "f"),
    ]
    assert result.summary == "f"
    last = engine.asked[-1].message
    assert "before: e\nNew items" in last
    assert "- title: thing 25" in last
    assert "thing 24" not in last


def test_recurrent_users_go_together_step_by_step() -> None:
    engine = ScriptedEngine("abcdef")
    results = summarize_recurrent(
        [history(6), [], ["i40"], ["i41", *history(11)]], make_writer(), make_asker(engine).ask
    )
    assert engine.sizes == [3, 2, 1]
    assert [result.summary for result in results] == ["d", "", "b", "f"]


def test_recurrent_starts_again_after_an_empty_summary() -> None:
    engine = ScriptedEngine(["a", "", "c"])
    summarize_recurrent([history(11)], make_writer(), make_asker(engine).ask)
    assert "before:" in engine.asked[1].message
    assert "before:" not in engine.asked[2].message


def test_the_first_block_is_the_same_work_in_both_modes() -> None:
    engine = ScriptedEngine("abcd")
    asker = make_asker(engine)
    summarize_hierarchical([history(9)], make_writer(), asker.ask)
    summarize_recurrent([history(9)], make_writer(), asker.ask)
    assert (asker.counts.calls, asker.counts.hits) == (4, 1)
