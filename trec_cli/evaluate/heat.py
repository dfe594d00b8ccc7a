"""How much each part of a history counted for each candidate (summaries of mode attention)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trec_cli.core.jsonl import read_lines
from trec_cli.core.records import Attention, Identifier, Key


class SummaryLine(msgspec.Struct, kw_only=True):
    """What the report needs of a line of `summaries-MODE.jsonl`."""

    user_id: Identifier
    summary: str
    example_id: Identifier | None = None
    attention: Attention | None = None


def read_summary_lines(path: Path, wanted: Collection[str]) -> dict[str, SummaryLine]:
    """Read the summaries of some examples by their id."""
    lines = read_lines(path, msgspec.json.Decoder(SummaryLine).decode)
    found = ((record.example_id or record.user_id, record) for _, record in lines)
    return {example: record for example, record in found if example in wanted}


@dataclass(frozen=True)
class HeatRow:
    """The weights of one candidate (or of all alike), by part of the history."""

    candidate: str
    weights: list[float | None]
    right: bool = False


@dataclass(frozen=True)
class HeatMap:
    """Candidates as rows, parts of the history as columns.

    Attributes:
        parts: which history items, counted from 1: ``1–5``.
        rows: one for each candidate, or a single one where all share the weights.
        highest: the largest weight, for the colours.
    """

    parts: list[str]
    rows: list[HeatRow]
    highest: float

    @property
    def gaps(self) -> bool:
        """Whether some weights are not known: only the highest of a candidate are written."""
        return any(weight is None for row in self.rows for weight in row.weights)


ALL_CANDIDATES = "all candidates"


def heat_map(
    attention: Attention, candidates: Sequence[str], right: Collection[int] = ()
) -> HeatMap | None:
    """Lay out the weights; None where there are none, or they are of other candidates.

    Args:
        attention: of an example's summary.
        candidates: of the example, in its order; their titles.
        right: the places of the right ones.
    """
    parts = [_part(key) for key in attention.keys]
    if attention.candidates:
        if len(attention.candidates) != len(candidates):
            return None
        pairs = enumerate(zip(candidates, attention.candidates, strict=True))
        rows = [
            HeatRow(title, _spread(weights, len(parts)), place in right)
            for place, (title, weights) in pairs
        ]
    elif attention.weights and len(attention.weights) == len(parts):
        rows = [HeatRow(ALL_CANDIDATES, list(attention.weights))]
    else:
        return None
    highest = max((weight or 0.0 for row in rows for weight in row.weights), default=0.0)
    return HeatMap(parts, rows, highest or 1.0)


def _part(key: Key) -> str:
    first, last = key.start + 1, key.end
    return str(last) if first >= last else f"{first}–{last}"


def _spread(weights: Sequence[tuple[int, float]], number: int) -> list[float | None]:
    """Put weights given as (place, weight) in their places; the others are not known."""
    row: list[float | None] = [None] * number
    for place, weight in weights:
        if 0 <= place < number:
            row[place] = weight
    return row
