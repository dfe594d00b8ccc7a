"""What a mode gives for one history."""

from dataclasses import dataclass

from trec_cli.core.records import Attention, Block


@dataclass(frozen=True)
class Result:
    """The final summary and every intermediate one, in the order in which they were made."""

    summary: str
    blocks: list[Block]
    attention: Attention | None = None
