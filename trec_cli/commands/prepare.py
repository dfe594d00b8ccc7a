"""``trec prepare``."""


def prepare() -> None:
    """Not there yet."""
