"""What a summary is made of, and what came out."""

from dataclasses import dataclass

from trec_cli.core.records import Item


@dataclass(frozen=True, slots=True)
class Source:
    """What a text should speak of.

    Attributes:
        items: all items beneath it, oldest first, with the attributes that prompts show.
        summaries: the summaries that it merges or updates, oldest first; none for a block.
        new: how many of the last items the request shows word for word besides summaries.
    """

    items: tuple[Item, ...] = ()
    summaries: tuple[str, ...] = ()
    new: int = 0

    @property
    def shown(self) -> tuple[Item, ...]:
        """The items that the request shows word for word."""
        if not self.summaries:
            return self.items
        return self.items[len(self.items) - self.new :]


@dataclass(frozen=True, slots=True)
class Answer:
    """A summary as it is kept.

    Attributes:
        text: one line.
        flags: what was found or done, in the order of :data:`trec_cli.core.records.FLAGS`.
    """

    text: str
    flags: tuple[str, ...] = ()
