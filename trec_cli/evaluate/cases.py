"""Single users for the report: where the best system shines, where it fails, and any."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from trec_cli.core.arrays import parts
from trec_cli.core.jsonl import open_input, read_items, read_lines
from trec_cli.core.records import Attention, Identifier, Item, Key
from trec_cli.core.seeds import generator
from trec_cli.evaluate.background import AskedLine
from trec_cli.evaluate.metrics import headline, reciprocal_rank
from trec_cli.evaluate.results import Evaluation
from trec_cli.evaluate.scores import ScoresFile, ScoresLine
from trec_cli.evaluate.sources import Sources

PER_KIND = 3


class SummaryLine(msgspec.Struct, kw_only=True):
    """What the report needs of a line of `summaries-MODE.jsonl`; those made elsewhere have less."""

    summary: str
    example_id: Identifier | None = None
    user_id: str = ""
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
        right: the indexes of the right ones.
    """
    parts = [_part(key) for key in attention.keys]
    if attention.candidates:
        if len(attention.candidates) != len(candidates):
            return None
        pairs = enumerate(zip(candidates, attention.candidates, strict=True))
        rows = [
            HeatRow(title, _spread(weights, len(parts)), index in right)
            for index, (title, weights) in pairs
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
    """Spread weights given as (index, weight) over a row; the others are not known."""
    row: list[float | None] = [None] * number
    for index, weight in weights:
        if 0 <= index < number:
            row[index] = weight
    return row


@dataclass(frozen=True)
class Candidate:
    """One line of a shown ranking."""

    title: str
    score: float
    positive: bool


@dataclass(frozen=True)
class Case:
    """One shown example.

    Attributes:
        kind: ``best``, ``worst`` or ``random``.
        example_id: its id.
        user_id: the user.
        history: titles, oldest first.
        summaries: what was written of the user, by mode.
        heat: attention weights, if the summaries have them.
        ranking: the candidates, best score first.
        ranks: expected ranks of the positives, by run.
    """

    kind: str
    example_id: str
    user_id: str
    history: list[str]
    summaries: dict[str, str]
    heat: HeatMap | None
    ranking: list[Candidate]
    ranks: dict[str, list[float]]


def leader(evaluation: Evaluation) -> int:
    """Return the first run of the system with the highest mean of the last NDCG."""
    column = evaluation.metrics.index(headline(evaluation.metrics))
    means = [
        np.concatenate([part[:, column] for part in parts(values)]).mean()
        for values in evaluation.values
    ]
    return evaluation.members[evaluation.names[int(np.argmax(means))]][0]


def choose(evaluation: Evaluation, seed: int) -> dict[int, str]:
    """Choose examples by the leader's reciprocal rank: index to kind.

    Equal ones are chosen by a seeded shuffle; no example is shown twice.
    """
    ranks = evaluation.ranks[leader(evaluation)]
    longest = int(ranks.candidates.max())
    value = np.concatenate([reciprocal_rank(part, longest) for _, part in ranks.parts()])
    shuffled = generator(seed, "cases").permutation(len(value))
    by_value = shuffled[np.argsort(value[shuffled], kind="stable")]
    chosen: dict[int, str] = {}
    for kind, indexes in (("best", by_value[::-1]), ("worst", by_value), ("random", shuffled)):
        fresh = (int(index) for index in indexes if int(index) not in chosen)
        chosen.update(dict.fromkeys(list(islice(fresh, PER_KIND)), kind))
    return chosen


def cases(evaluation: Evaluation, sources: Sources, seed: int) -> list[Case]:
    """Gather everything there is to show of the chosen examples."""
    chosen = choose(evaluation, seed)
    system = evaluation.runs[leader(evaluation)]
    records = _records(system.file, {int(system.lines[index]) for index in chosen})
    wanted = {record.example for record in records.values()}
    asked = sources.asked(wanted)
    written = {m: read_summary_lines(path, wanted) for m, path in sources.summaries.items()}
    items = read_items(sources.items) if sources.items else {}
    shown = []
    for index, kind in chosen.items():
        record = records[int(system.lines[index])]
        example = record.example
        lines = {mode: of_mode[example] for mode, of_mode in written.items() if example in of_mode}
        line = asked.get(example)
        if line and not system.has_positives(index, line.right):
            line = None  # another version of the example than was scored
        shown.append(
            Case(
                kind,
                example,
                record.user_id,
                [title_of(item, items) for item in line.history] if line else [],
                {mode: summary.summary for mode, summary in lines.items()},
                _heat(lines, line, items),
                _ranking(record, items),
                _ranks(evaluation, index),
            )
        )
    return shown


def _heat(
    lines: Mapping[str, SummaryLine], asked: AskedLine | None, items: Mapping[str, Item]
) -> HeatMap | None:
    """Lay out the attention weights of an example, where its summary has some."""
    attention = next((line.attention for line in lines.values() if line.attention), None)
    if attention is None:
        return None
    candidates = asked.candidates if asked else []
    right = {index for index, item in enumerate(candidates) if asked and item in asked.positives}
    return heat_map(attention, [title_of(item, items) for item in candidates], right)


def _records(file: ScoresFile, lines: set[int]) -> dict[int, ScoresLine]:
    """Read single lines of a file that was read without fault before."""
    decode = msgspec.json.Decoder(ScoresLine).decode
    with open_input(file.path) as stream:
        return {n: decode(line) for n, line in enumerate(stream, start=1) if n in lines}


def title_of(item_id: str, items: Mapping[str, Item]) -> str:
    """Return an item's title, else its text, else its id."""
    item = items.get(item_id)
    return (item.title or item.text() or item_id) if item else item_id


def _ranking(record: ScoresLine, items: Mapping[str, Item]) -> list[Candidate]:
    right = set(record.positives)
    pairs = zip(record.candidates, record.scores, strict=True)
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    return [Candidate(title_of(item, items), score, item in right) for item, score in ranked]


def _ranks(evaluation: Evaluation, index: int) -> dict[str, list[float]]:
    """Return the expected ranks of an example's positives, by run."""
    return {
        run.name: ranks.expected[ranks.example == index].tolist()
        for run, ranks in zip(evaluation.runs, evaluation.ranks, strict=True)
    }
