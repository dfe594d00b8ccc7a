"""``trec score``."""


def score() -> None:
    """Not there yet."""
