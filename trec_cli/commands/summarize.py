"""``trec summarize``."""


def summarize() -> None:
    """Not there yet."""
