"""Domains: which set of prompt templates suits a catalogue."""

from collections.abc import Mapping

from trec_cli.core.records import Item

FACETS = ("subcategory", "category", "genre", "section", "brand", "manufacturer", "author")
"""Attributes that hold what kind an item is, the finest first."""
_PRODUCTS = {"brand", "price", "color", "size", "model", "material", "manufacturer"}
_NEWS = {"subcategory", "abstract", "section", "headline", "publisher"}


def choose_domain(domain: str, items: Mapping[str, Item]) -> str:
    """Give the folder of templates; ``auto`` looks at the names of the attributes.

    What a shop says of its goods (brand, price, …) makes products; otherwise what a
    newspaper says (subcategory, abstract, …) makes news; anything else is general.
    ``sentences`` asks for prose, as the paper does, in any domain.
    """
    if domain != "auto":
        return domain
    names = {name for item in items.values() for name in item.attributes}
    if names & _PRODUCTS:
        return "products"
    return "news" if names & _NEWS else "general"
