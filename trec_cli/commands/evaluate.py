"""``trec eval``."""


def evaluate() -> None:
    """Not there yet."""
