"""Attributes that no item has are refused by name."""

import pytest

from trec_cli.core.attributes import check_attributes
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Item

ITEMS = {"1": Item("1", {"title": "a"}), "2": Item("2", {"title": "b", "brand": "c"})}


@pytest.mark.parametrize("names", [None, ("brand",), ("brand", "title")])
def test_an_attribute_that_any_item_has_is_fine(names: tuple[str, ...] | None) -> None:
    check_attributes(names, ITEMS)


@pytest.mark.parametrize(("names", "wrong"), [(("titel", "title"), "titel"), ((), "none")])
def test_an_attribute_that_no_item_has_is_named(names: tuple[str, ...], wrong: str) -> None:
    with pytest.raises(UsageError, match=f"no item has {wrong}; use brand, title"):
        check_attributes(names, ITEMS)
