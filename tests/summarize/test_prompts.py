"""Prompts of the summariser and their token budget."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.summarize.helpers import history, make_writer, narrow_writer, tokenizer
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Item
from trec_cli.summarize.settings import SummarySettings

LONG = {f"i{n}": Item(f"i{n}", {"title": "word " * 200}) for n in range(9)}


def test_a_block_prompt_holds_the_chat_frame_and_one_line_per_item() -> None:
    prompt = make_writer().block(["i3", "i1"])
    assert "\n- title: thing 3\n- title: thing 1\n" in prompt.message
    shown = tokenizer().decode(prompt.ids)
    assert shown == f"<|im_start|>user\n{prompt.message}<|im_end|>\n<|im_start|>assistant\n"


def test_the_parts_add_up_to_the_prompt() -> None:
    prompt = make_writer().update("likes tea", history(3), 3)
    assert sum(tokens for _, tokens in prompt.parts) == len(prompt.ids)
    assert [name for name, _ in prompt.parts][2:5:2] == ["summary", "items"]


def test_an_id_is_never_shown() -> None:
    items = {"SECRET-9": Item("SECRET-9", {"title": "tea"})}
    assert "SECRET" not in make_writer(items=items).block(["SECRET-9"]).message


def test_newlines_inside_a_field_leave_an_item_one_line() -> None:
    items = {"a": Item("a", {"title": "red\n- title: fake\r\nsocks", "note": "x\u2028y"})}
    message = make_writer(items=items).block(["a"]).message
    assert "- title: red - title: fake socks; note: x y\n" in message


def test_braces_in_an_item_are_plain_text() -> None:
    items = {"a": Item("a", {"title": "{items} {summary} {x}"})}
    assert "- title: {items} {summary} {x}" in make_writer(items=items).block(["a"]).message


def test_attributes_choose_and_order_what_is_shown() -> None:
    items = {"a": Item("a", {"title": "T", "brand": "B", "price": "P"})}
    settings = SummarySettings(attributes=("brand", "title"))
    assert "- brand: B; title: T\n" in make_writer(settings, items).block(["a"]).message


def test_an_item_without_text_is_called_unknown() -> None:
    assert "- unknown\n" in make_writer(items={"a": Item("a", {})}).block(["a"]).message


def test_a_long_item_is_cut_at_a_token_and_counted() -> None:
    writer = make_writer(SummarySettings(item_tokens=6), LONG)
    prompt = writer.block(["i0"])
    assert dict(prompt.parts)["items"] == 6
    line = prompt.message.splitlines()[1]
    assert ("- title: " + "word " * 200).startswith(line)
    assert (writer.cuts.items, writer.cuts.long_items) == (1, 1)


def test_a_character_cut_in_half_is_not_in_the_text() -> None:
    items = {"a": Item("a", {"title": "🍵" * 9})}
    for cap in range(4, 20):
        message = make_writer(SummarySettings(item_tokens=cap), items).block(["a"]).message
        assert "\ufffd" not in message


def test_items_that_do_not_fit_together_are_shortened_evenly() -> None:
    writer = make_writer(
        SummarySettings(item_tokens=500, prompt_tokens=300, domain="sentences"), LONG
    )
    prompt = writer.block(list(LONG))
    assert 300 - len(LONG) < len(prompt.ids) <= 300
    lines = [line for line in prompt.message.splitlines() if line.startswith("- ")]
    assert len(set(lines)) == 1
    assert writer.cuts.squeezed_items == len(LONG)


def test_a_prompt_with_its_answer_fits_the_models_positions() -> None:
    writer = make_writer(
        SummarySettings(item_tokens=500, domain="sentences"), LONG, most_tokens=256
    )
    assert len(writer.block(list(LONG)).ids) + writer.settings.summary_tokens <= 256


@settings(max_examples=40)
@given(
    st.lists(st.text(max_size=80), min_size=1, max_size=5),
    st.text(min_size=1, max_size=200),
    st.integers(1, 40),
)
def test_no_prompt_exceeds_the_smallest_budget_that_is_allowed(
    titles: list[str], summary: str, item_tokens: int
) -> None:
    items = {str(n): Item(str(n), {"title": title}) for n, title in enumerate(titles)}
    small = narrow_writer("recurrent", summary_tokens=9, item_tokens=item_tokens)
    writer = make_writer(small.settings, items)
    assert len(writer.update(summary, list(items), len(items)).ids) <= writer.budget
    assert len(writer.block(list(items)).ids) <= writer.budget


def test_two_long_summaries_always_fit_a_merge() -> None:
    writer = narrow_writer(summary_tokens=12, block_size=2, item_tokens=8)
    texts = ["long " * 99, "longer " * 99]
    assert writer.merge_groups(texts) == [(0, 2)]
    assert len(writer.merge(texts, []).ids) <= writer.budget
    assert writer.cuts.long_summaries == 2


@pytest.mark.parametrize("mode", ["hier", "recurrent"])
def test_sizes_that_cannot_work_are_an_error_before_any_work(mode: str) -> None:
    writer = make_writer(SummarySettings(prompt_tokens=120))
    with pytest.raises(UsageError, match="--prompt-tokens"):
        writer.check(mode)


def test_a_users_template_replaces_the_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "summarize_block.txt").write_text("Was mag sie? {items}\n", encoding="utf-8")
    writer = make_writer(prompts=tmp_path)
    assert writer.block(["i7"]).message == "Was mag sie? - title: thing 7"


def test_a_template_with_a_wrong_slot_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "summarize_merge.txt").write_text("{items}", encoding="utf-8")
    with pytest.raises(InputError, match=r"summarize_merge.txt.*\{summaries\}"):
        make_writer(prompts=tmp_path)
