"""Domains, their templates, and what stands around them."""

from pathlib import Path

import pytest

from tests.summarize.helpers import ITEMS, tokenizer
from trec_cli.core.errors import InputError
from trec_cli.core.records import Domain, Item
from trec_cli.prompts.template import Template
from trec_cli.summarize.prompts import PromptWriter, choose_domain, frame_for, load_templates
from trec_cli.summarize.settings import SummarySettings


def make_writer(settings: SummarySettings) -> PromptWriter:
    """Give a writer in the frame that its templates ask for."""
    frame = frame_for(tokenizer(), load_templates(settings.domain), settings.chat)
    return PromptWriter(tokenizer(), frame, ITEMS, settings)


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        (["title"], "general"),
        (["title", "category"], "general"),
        (["title", "category", "subcategory"], "news"),
        (["title", "abstract"], "news"),
        (["title", "brand"], "products"),
        (["title", "price", "subcategory"], "products"),
    ],
)
def test_the_names_of_the_attributes_tell_the_domain(attributes: list[str], wanted: str) -> None:
    items = {"a": Item("a", {"title": "x"}), "b": Item("b", dict.fromkeys(attributes, "x"))}
    assert choose_domain("auto", items) == wanted
    assert choose_domain("sentences", items) == "sentences"


@pytest.mark.parametrize("domain", ["news", "products", "general"])
def test_a_text_to_continue_ends_where_its_answer_begins(domain: Domain) -> None:
    writer = make_writer(SummarySettings(domain=domain))
    assert writer.continues
    prompt = writer.block(["i1"])
    assert prompt.message.endswith("- title: thing 1\nKeywords:")
    assert tokenizer().decode(prompt.ids) == prompt.message
    assert writer.update("tea", ["i1"], 1).message.endswith(":")
    assert writer.merge(["tea"], ["i1"]).message.endswith(":")


def test_an_instruction_goes_through_the_chat_template() -> None:
    writer = make_writer(SummarySettings(domain="sentences"))
    assert not writer.continues
    assert tokenizer().decode(writer.block(["i1"]).ids).startswith("<|im_start|>user\nA user")


def test_the_user_may_ask_for_another_frame() -> None:
    templates = load_templates("news")
    assert frame_for(tokenizer(), templates, True).chat
    assert not frame_for(tokenizer(), load_templates("sentences"), False).chat
    assert not make_writer(SummarySettings(domain="news", chat=True)).continues


def test_one_template_that_is_no_text_to_continue_makes_all_instructions() -> None:
    templates = {**load_templates("news"), "summarize_block": Template("b", "List {items}.")}
    assert frame_for(tokenizer(), templates, None).chat


def test_the_slots_of_every_domain_are_checked() -> None:
    for domain in ("news", "products", "general", "sentences"):
        slots = {name: t.slots for name, t in load_templates(domain).items()}
        assert slots == {
            "summarize_block": {"items"},
            "summarize_merge": {"summaries"},
            "summarize_update": {"summary", "items"},
        }


def test_a_users_template_replaces_that_of_any_domain(tmp_path: Path) -> None:
    folder = tmp_path
    (folder / "summarize_merge.txt").write_text("Together {summaries}:", encoding="utf-8")
    assert load_templates("news", folder)["summarize_merge"].text == "Together {summaries}:"
    (folder / "summarize_merge.txt").write_text("Together {summary}:", encoding="utf-8")
    with pytest.raises(InputError, match=r"must hold exactly \{summaries\}"):
        load_templates("news", folder)
