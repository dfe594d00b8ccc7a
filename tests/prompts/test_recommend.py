"""The recommender's prompt: its parts, its budget, what is saved of it.

Most tests use a tokenizer with one token per byte, so that lengths can be counted by hand.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from samples.tiny_model import build_tokenizer
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Item
from trec_cli.prompts.learnt import LearntPrompt, load_settings, save_settings
from trec_cli.prompts.recommend import Cuts, PromptBuilder, PromptTree
from trec_cli.prompts.settings import PromptSettings
from trec_cli.prompts.template import Template

SHORT = Template("recommend", "S:{summary}\nR:{recent}\nC:{candidate}?")
FIXED = len("S:") + len("\nR:") + len("\nC:")
END = len("?") + len("\nAnswer:")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with a token per byte, and nothing before or behind a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


BYTES = byte_tokenizer()
ITEMS = {
    "i1": Item("i1", {"t": "a" * 7}),  # "t: aaaaaaa" is 10 bytes
    "i2": Item("i2", {"t": "b" * 7}),
    "i3": Item("i3", {"t": "c" * 7}),
    "i4": Item("i4", {"t": "d" * 7}),
    "long": Item("long", {"t": "e" * 97}),  # 100 bytes
    "empty": Item("empty", {"t": ""}),
}


def builder(max_length: int = 1000, **more: Any) -> PromptBuilder:
    positions = more.pop("max_positions", None)
    more = {"candidate_tokens": 30, **more}
    chosen = PromptSettings(max_length=max_length, **more)
    return PromptBuilder(BYTES, ITEMS, chosen, max_positions=positions, template=SHORT)


def text_of(tree: PromptTree, branch: int = 0) -> str:
    return str(BYTES.decode([*tree.prefix, *tree.branches[branch]]))


def test_the_five_parts_stand_in_the_papers_order() -> None:
    tree = builder().tree(["i1", "i2", "i3", "i4"], "likes a", ["i1", "i4"])
    recent = "t: bbbbbbb\nt: ccccccc\nt: ddddddd"
    assert text_of(tree) == f"S:likes a\nR:{recent}\nC:t: aaaaaaa?\nAnswer:"
    assert text_of(tree, 1).endswith("\nC:t: ddddddd?\nAnswer:")
    assert tree.cuts == Cuts()
    assert not tree.cuts


def test_the_newest_of_the_last_items_stands_last() -> None:
    tree = builder(recent=2).tree(["i3", "i1", "i2"], "", ["i4"])
    assert "R:t: aaaaaaa\nt: bbbbbbb\nC:" in text_of(tree)


def test_without_summary_or_history_the_prompt_says_unknown() -> None:
    assert text_of(builder().tree([], " \n", ["i1"])).startswith("S:unknown\nR:unknown\nC:")
    assert "R:unknown\nC:" in text_of(builder(recent=0).tree(["i2"], "x", ["i1"]))


def test_an_item_without_text_is_called_unknown() -> None:
    assert "C:unknown?" in text_of(builder().tree(["i1"], "x", ["empty"]))


def test_only_the_chosen_attributes_are_shown_in_their_order() -> None:
    items = {"i": Item("i", {"title": "T", "brand": "B", "price": "9"})}
    chosen = PromptSettings(attributes=("brand", "title"))
    tree = PromptBuilder(BYTES, items, chosen, template=SHORT).tree(["i"], "", ["i"])
    assert "R:brand: B; title: T\nC:brand: B; title: T?" in text_of(tree)


def test_a_line_break_inside_an_item_does_not_shift_the_last_items() -> None:
    items = {"i": Item("i", {"title": "one\ntwo"}), "j": Item("j", {"title": "three"})}
    tree = PromptBuilder(BYTES, items, PromptSettings(recent=1), template=SHORT).tree(
        ["i", "j"], "", ["i"]
    )
    assert "R:title: three\nC:title: one two?" in text_of(tree)


def test_ids_never_reach_the_prompt() -> None:
    items = {"SECRET-1": Item("SECRET-1", {"t": "x"}), "SECRET-2": Item("SECRET-2", {"t": "y"})}
    tree = PromptBuilder(BYTES, items, PromptSettings(), template=SHORT).tree(
        ["SECRET-1"], "s", ["SECRET-2"]
    )
    assert "SECRET" not in text_of(tree)


def test_braces_and_unicode_in_texts_stay_as_they_are() -> None:
    items = {"i": Item("i", {"t": "{summary} Käse 鮨 🍣"})}
    tree = PromptBuilder(BYTES, items, PromptSettings(), template=SHORT).tree(["i"], "ß{x}", ["i"])
    assert text_of(tree) == (
        "S:ß{x}\nR:t: {summary} Käse 鮨 🍣\nC:t: {summary} Käse 鮨 🍣?\nAnswer:"
    )


HISTORY = ["i1", "i2", "i3"]  # three lines of 10 bytes and two line breaks: 32
SUMMARY = "s" * 20


def cut_by(excess: int) -> PromptTree:
    """Build a prompt whose prefix is ``excess`` bytes longer than its budget."""
    whole = FIXED + len(SUMMARY) + 32
    return builder(whole - excess + 30).tree(HISTORY, SUMMARY, ["i4"])


@pytest.mark.parametrize(
    ("excess", "recent", "summary", "cuts"),
    [
        (0, "t: aaaaaaa\nt: bbbbbbb\nt: ccccccc", 20, Cuts()),
        (
            4,
            "t: aaa\nt: bbbbbbb\nt: ccccccc",
            20,
            Cuts(examples=1, recent_shortened=1, recent_tokens=4),
        ),
        (
            10,
            "t: bbbbbbb\nt: ccccccc",
            20,
            Cuts(examples=1, recent_dropped=1, recent_tokens=10),
        ),
        (
            13,
            "t: bbbbb\nt: ccccccc",
            20,
            Cuts(examples=1, recent_shortened=1, recent_dropped=1, recent_tokens=12),
        ),
        (
            24,
            "t: ccccc",
            20,
            Cuts(examples=1, recent_shortened=1, recent_dropped=2, recent_tokens=22),
        ),
        (
            37,
            "",
            15,
            Cuts(examples=1, recent_dropped=3, recent_tokens=30, summary_tokens=5),
        ),
    ],
)
def test_the_oldest_item_is_cut_first_and_the_summary_last(
    excess: int, recent: str, summary: int, cuts: Cuts
) -> None:
    tree = cut_by(excess)
    assert text_of(tree) == f"S:{'s' * summary}\nR:{recent}\nC:t: ddddddd?\nAnswer:"
    assert tree.cuts == cuts


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 80), max_size=5),
    summary=st.integers(0, 80),
    room=st.integers(0, 120),
)
def test_a_prefix_keeps_its_budget_and_loses_no_more_than_it_must(
    lengths: list[int], summary: int, room: int
) -> None:
    items = {str(n): Item(str(n), {"t": "x" * length}) for n, length in enumerate(lengths)}
    items["c"] = Item("c", {"t": "y"})
    chosen = PromptSettings(recent=5, max_length=FIXED + room + 30, candidate_tokens=30)
    build = PromptBuilder(BYTES, items, chosen, template=SHORT)
    tree = build.tree([str(n) for n in range(len(lengths))], "s" * summary, ["c"])
    assert len(tree.prefix) <= FIXED + room
    if tree.cuts.recent_shortened or tree.cuts.summary_tokens:
        assert len(tree.prefix) == FIXED + room
    assert text_of(tree).endswith("\nC:t: y?\nAnswer:")


def test_a_cut_prompt_keeps_instruction_candidate_and_answer() -> None:
    text = text_of(builder(FIXED + 30).tree(HISTORY, SUMMARY, ["i4"]))
    assert text == "S:\nR:\nC:t: ddddddd?\nAnswer:"


def test_a_prefix_does_not_depend_on_the_other_candidates() -> None:
    build = builder(FIXED + 70)
    alone = build.tree(HISTORY, SUMMARY, ["i4"])
    beside = build.tree(HISTORY, SUMMARY, ["long", "i4"])
    assert alone.prefix == beside.prefix
    assert alone.branches[0] == beside.branches[1]


def test_a_candidate_longer_than_its_share_is_kept_whole_and_counted() -> None:
    tree = builder().tree(HISTORY, SUMMARY, ["long", "i4"])
    assert "e" * 97 in text_of(tree)
    assert tree.cuts == Cuts(long_candidates=1)


def test_a_long_candidate_squeezes_the_prefix_where_the_model_ends() -> None:
    tree = builder(140, max_positions=140).tree(HISTORY, SUMMARY, ["long"])
    assert tree.cuts.squeezed == 1
    assert tree.cuts.long_candidates == 1
    assert len(tree.branches[0]) == 100 + END
    assert len(tree.prefix) == 140 - (100 + END) - 1


def test_what_cannot_fit_at_all_names_the_example() -> None:
    with pytest.raises(InputError, match=r"example 'u7'.*limit of 110 tokens"):
        builder(110, max_positions=110).tree([], "", ["long"], example="u7")


def test_a_prompt_longer_than_the_model_is_refused_with_the_limit() -> None:
    with pytest.raises(UsageError, match=r"--max-length 200 .* limit of 128"):
        builder(200, max_positions=128)


def test_settings_without_room_for_the_instruction_are_refused() -> None:
    with pytest.raises(UsageError, match="no room for the instruction"):
        builder(35)


def test_cuts_add_up_and_read_as_a_sentence() -> None:
    both = cut_by(13).cuts + cut_by(37).cuts
    assert both == Cuts(
        examples=2, recent_shortened=1, recent_dropped=4, recent_tokens=42, summary_tokens=5
    )
    assert str(both) == (
        "2 prompts cut: 1 recent item shortened and 4 dropped (42 tokens), 5 tokens of "
        "summaries; 0 candidates longer than the share, kept whole"
    )
    assert str(Cuts()) == "nothing was cut"


def test_parts_written_out_are_the_prompt() -> None:
    build = builder()
    tree = build.tree(HISTORY, SUMMARY, ["i4"])
    parts = build.describe(tree)
    assert "".join(part.text for part in parts) == text_of(tree)
    assert {part.name: part.tokens for part in parts if part.name != "instruction"} == {
        "preference summary": 20,
        "recent items": 32,
        "candidate": 10,
        "answer": END,
    }
    assert sum(part.tokens for part in parts) == len(tree.prefix) + len(tree.branches[0])


def test_with_a_chat_template_the_branch_ends_where_the_answer_begins() -> None:
    tokenizer = build_tokenizer(chat=True)
    build = PromptBuilder(tokenizer, ITEMS, PromptSettings())
    tree = build.tree(["i1"], "s", ["i2"])
    text = tokenizer.decode([*tree.prefix, *tree.branches[0]])
    assert text.startswith("<|im_start|>user\nYou predict")
    assert text.endswith("t: bbbbbbb<|im_end|>\n<|im_start|>assistant\n")
    assert build.settings.chat is True


def test_the_chat_template_can_be_left_out() -> None:
    tokenizer = build_tokenizer(chat=True)
    build = PromptBuilder(tokenizer, ITEMS, PromptSettings(chat=False))
    tree = build.tree(["i1"], "s", ["i2"])
    assert tokenizer.decode(tree.branches[0]).endswith("bbbbbbb\nAnswer:")
    assert build.settings.chat is False


def test_own_templates_need_the_slots_in_order(tmp_path: Path) -> None:
    (tmp_path / "recommend.txt").write_text("{candidate} {summary} {recent}")
    with pytest.raises(InputError, match="another order"):
        PromptBuilder(BYTES, ITEMS, PromptSettings(), prompts=tmp_path)
    (tmp_path / "recommend.txt").write_text("{candidate}")
    with pytest.raises(InputError, match="slots are wrong: recent, summary"):
        PromptBuilder(BYTES, ITEMS, PromptSettings(), prompts=tmp_path)


def test_a_template_must_not_start_with_a_slot(tmp_path: Path) -> None:
    (tmp_path / "recommend.txt").write_text("{summary} {recent} {candidate}")
    with pytest.raises(InputError, match="starts with a slot"):
        PromptBuilder(BYTES, ITEMS, PromptSettings(), prompts=tmp_path)


def test_saved_settings_come_back_with_the_template(tmp_path: Path) -> None:
    build = builder(attributes=("t",), recent=2)
    save_settings(tmp_path, build)
    assert load_settings(tmp_path) == LearntPrompt(build.settings, SHORT, thinking="")


def test_it_is_written_down_that_the_model_was_kept_from_thinking(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    opened = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    tokenizer.chat_template = (
        f"{{% for m in messages %}}{{{{ m['content'] }}}}{{% endfor %}}{opened}"
    )
    build = PromptBuilder(tokenizer, ITEMS, PromptSettings())
    save_settings(tmp_path, build)
    found = load_settings(tmp_path).thinking
    assert found == build.thinking
    assert found is not None
    assert found.startswith("an empty thought is closed")


def test_settings_of_earlier_versions_say_nothing_of_thinking(tmp_path: Path) -> None:
    save_settings(tmp_path, builder())
    path = tmp_path / "prompt.json"
    content = json.loads(path.read_bytes())
    del content["thinking"]
    path.write_text(json.dumps(content))
    assert load_settings(tmp_path).thinking is None


def test_missing_or_damaged_settings_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"prompt\.json: no such file"):
        load_settings(tmp_path)
    for content in ("{", "{}", '{"template": "x", "recent": "three"}'):
        (tmp_path / "prompt.json").write_text(content)
        with pytest.raises(InputError, match="no prompt settings"):
            load_settings(tmp_path)


def asked_after(history: Sequence[str], candidates: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Ask for the candidates after every item, the last first."""
    return [(count, list(candidates)) for count in range(len(history), 0, -1)]


def texts_of(tree: PromptTree) -> list[str]:
    """Write out every prompt of a tree whose branches leave the prefix at several items."""
    pairs = zip(tree.at, tree.branches, strict=True)
    return [str(BYTES.decode([*tree.prefix[:at], *branch])) for at, branch in pairs]


def test_a_tree_over_a_history_holds_the_prompts_of_its_beginnings() -> None:
    make, history = builder(recent=50), ["i3", "i1", "i4", "i1", "long"]
    tree, shown = make.history_tree(history, "likes a", asked_after(history, ["i2", "empty"]))
    assert shown == list(range(10))
    assert texts_of(tree)[-2:] == [
        "S:likes a\nR:t: ccccccc\nC:t: bbbbbbb?\nAnswer:",
        "S:likes a\nR:t: ccccccc\nC:unknown?\nAnswer:",
    ]
    singles = [make.tree(history[:n], "likes a", ["i2", "empty"]) for n in (5, 4, 3, 2, 1)]
    assert texts_of(tree) == [text_of(single, branch) for single in singles for branch in (0, 1)]
    assert tree.separate_size == sum(single.separate_size for single in singles)
    for branch in (0, 3, 9):
        parts = make.describe(tree, branch)
        assert "".join(part.text for part in parts) == texts_of(tree)[branch]
        assert [part.name for part in parts][-3:] == ["instruction", "candidate", "answer"]


def test_what_is_asked_before_the_first_shown_item_has_no_branch() -> None:
    make, history = builder(recent=2), ["i1", "i2", "i3", "i4"]
    tree, shown = make.history_tree(history, "", asked_after(history, ["i1"]))
    assert shown == [0, 1]
    assert texts_of(tree) == [
        "S:unknown\nR:t: ccccccc\nt: ddddddd\nC:t: aaaaaaa?\nAnswer:",
        "S:unknown\nR:t: ccccccc\nC:t: aaaaaaa?\nAnswer:",
    ]


@pytest.mark.parametrize(("recent", "history"), [(0, ["i1", "i2"]), (3, [])])
def test_where_no_item_is_shown_the_end_of_the_history_is_asked_all_the_same(
    recent: int, history: list[str]
) -> None:
    asked = [(len(history), ["i3"]), *([(1, ["i4"])] if history else [])]
    tree, shown = builder(recent=recent).history_tree(history, "", asked)
    assert shown == [0]
    assert texts_of(tree) == ["S:unknown\nR:unknown\nC:t: ccccccc?\nAnswer:"]


def test_a_history_that_does_not_fit_loses_its_oldest_items_and_their_questions() -> None:
    """Room for 25 bytes of items: 10, a line break, 10, and 3 of the oldest kept one."""
    room = FIXED + len("x") + 25
    make = builder(recent=50, max_length=room + 30, candidate_tokens=30)
    history = ["i1", "i2", "i3", "i4"]
    tree, shown = make.history_tree(history, "x", asked_after(history, ["i1"]))
    assert shown == [0, 1, 2]
    assert texts_of(tree) == [
        "S:x\nR:t: \nt: ccccccc\nt: ddddddd\nC:t: aaaaaaa?\nAnswer:",
        "S:x\nR:t: \nt: ccccccc\nC:t: aaaaaaa?\nAnswer:",
        "S:x\nR:t: \nC:t: aaaaaaa?\nAnswer:",
    ]
    assert texts_of(tree)[0] == text_of(make.tree(history, "x", ["i1"]))
    assert tree.cuts == Cuts(examples=1, recent_shortened=1, recent_dropped=1, recent_tokens=17)


def test_a_text_is_not_asked_for_with_evidence_of_each_candidate() -> None:
    with pytest.raises(UsageError, match="--ask text does not go with summaries of --query"):
        PromptBuilder(BYTES, ITEMS, PromptSettings(ask="text"), target=True)


def test_only_an_answer_has_tokens_for_yes_and_no() -> None:
    assert builder().answers.yes_text
    with pytest.raises(ValueError, match="no answer"):
        _ = PromptBuilder(BYTES, ITEMS, PromptSettings(ask="text")).answers


def test_a_part_is_shown_as_it_stands_in_the_prompt() -> None:
    odd = {"odd": Item("odd", {"t": "tea , pot . do n't"})}
    make = PromptBuilder(BYTES, odd, PromptSettings(), template=SHORT)
    shown = [part.text for part in make.describe(make.tree(["odd"], "a ! b", ["odd"]))]
    assert "a ! b" in shown
    assert any("tea , pot . do n't" in text for text in shown)
