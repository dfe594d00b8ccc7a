"""Records: what an item says of itself, and that the documented fields are the real ones."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.records import MODES, SPLITS, Block, Example, Item, Scores, Summary

DOCS = Path(__file__).resolve().parents[2] / "docs" / "files.md"


def test_text_skips_what_is_empty_and_keeps_the_order() -> None:
    item = Item("7", {"brand": "Ö", "title": "", "color": " \n ", "size": "L"})
    assert item.text() == "brand: Ö; size: L"


def test_text_takes_chosen_attributes_in_the_chosen_order() -> None:
    item = Item("7", {"title": "T", "brand": "B", "size": "L"})
    assert item.text(("size", "title", "none")) == "size: L; title: T"
    assert item.text(()) == ""


@given(st.dictionaries(st.sampled_from(["title", "brand"]), st.text(max_size=30)))
def test_an_item_is_one_line_whatever_its_texts_hold(texts: dict[str, str]) -> None:
    assert len(Item("7", texts).text().splitlines()) <= 1


def test_the_id_is_not_in_the_text() -> None:
    assert "B000123" not in Item("B000123", {"title": "T"}).text()


def test_a_title_may_be_missing() -> None:
    assert Item("7", {}).title == ""
    assert Item("7", {}).text() == ""


@pytest.mark.parametrize("kind", [Example, Summary, Scores])
def test_the_documentation_names_every_field(kind: type[msgspec.Struct]) -> None:
    documented = DOCS.read_text(encoding="utf-8")
    for field in msgspec.structs.fields(kind):
        assert f"`{field.name}`" in documented


def test_splits_and_modes_are_those_of_the_contract() -> None:
    assert SPLITS == ("train", "valid", "test", "predict")
    assert MODES == ("hier", "recurrent", "attention", "none")


def test_a_block_counts_items_from_zero() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"level": 0, "start": -1, "end": 2, "summary": ""}, Block)
