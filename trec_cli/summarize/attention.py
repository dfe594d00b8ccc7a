"""Attention over block summaries: the query decides which of them make the summary.

The blocks and their prompts are those of the hierarchical mode, so no text is made for
this mode alone.  What the model would merge, attention weighs: see ``docs/attention.md``.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from trec_cli.attention.evidence import Evidence, Passage
from trec_cli.attention.target import TargetAttention, TargetSettings
from trec_cli.attention.weights import Weights, recent_weights, strongest
from trec_cli.core.records import Attention, Block, Example, Key, Query
from trec_cli.models.vectors import ItemVectors
from trec_cli.summarize.extract import extend
from trec_cli.summarize.modes import Result
from trec_cli.summarize.prompts import PromptWriter, SourceTexts
from trec_cli.summarize.settings import AttentionSettings
from trec_cli.summarize.text import cut_back

STORED_WEIGHTS = 8
"""Highest weights of a candidate that are written into the file."""
_DECIMALS = 6


class Attender:
    """Weighs the blocks of an example, and makes its summary of those that count most."""

    def __init__(
        self, vectors: ItemVectors, settings: AttentionSettings, writer: PromptWriter
    ) -> None:
        """Keep the vectors of all items in the histories (and candidates, if they ask)."""
        self._vectors, self._settings, self._writer = vectors, settings, writer
        self._budget = settings.budget or writer.settings.summary_tokens
        chosen = TargetSettings(settings.temperature, settings.top_k, self._budget)
        self.target = TargetAttention(vectors, chosen)

    def __call__(self, example: Example, result: Result) -> Result:
        """Return the result with summary and weights; an empty history has neither."""
        blocks = result.blocks
        weights = self._weights(example.history, blocks)
        attention = Attention(
            query=self._settings.query,
            keys=[Key(start=block.start, end=block.end) for block in blocks],
            weights=np.round(weights, _DECIMALS).tolist(),
            candidates=self._of_candidates(example, blocks),
        )
        return dataclasses.replace(
            result, summary=self._summary(blocks, weights), attention=attention
        )

    def _weights(self, history: Sequence[str], blocks: Sequence[Block]) -> Weights:
        if not blocks:
            return np.zeros(0)
        return recent_weights(
            self._vectors.of(history),
            [(block.start, block.end) for block in blocks],
            self._settings.query_items,
            self._settings.temperature,
            [bool(block.summary) for block in blocks],
            shown=not self._writer.settings.skip_recent,
        )

    def _summary(self, blocks: Sequence[Block], weights: Weights) -> str:
        """Join the strongest block summaries, in time order, cut to the budget by weight.

        What whole phrases leave of the budget is filled with others that fit, of lists.
        """
        indices = sorted(strongest(weights, self._settings.top_k))
        passages = [Passage(blocks[n].summary, float(weights[n])) for n in indices]
        lengths = [self._writer.tokens(passage.text) for passage in passages]
        between = max(0, len(passages) - 1)
        room = max(1, self._budget - between)
        shares = Evidence(passages, room).shares(lengths)
        heard = [(passage, share) for passage, share in zip(passages, shares, strict=True) if share]
        text = joined(self._within(passage.text, share) for passage, share in heard)
        if not self._writer.continues:
            return text
        rising = sorted((passage for passage, _ in heard), key=lambda passage: passage.weight)
        more = SourceTexts(summaries=tuple(passage.text for passage in rising))
        return extend(text, more, self._budget, self._writer.tokens)

    def _within(self, text: str, tokens: int) -> str:
        """Return a text cut at the last whole phrase that fits; half a word might be untrue."""
        if self._writer.tokens(text) <= tokens:
            return text
        cut = self._writer.cut(text, tokens)
        return cut_back(cut) or cut

    def _of_candidates(
        self, example: Example, blocks: Sequence[Block]
    ) -> list[list[tuple[int, float]]]:
        if self._settings.query == "recent":
            return []
        rows = self.target.weights(example.history, blocks, example.candidates)
        return [
            [(n, round(float(row[n]), _DECIMALS)) for n in strongest(row, STORED_WEIGHTS)]
            for row in rows
        ]


def joined(texts: Iterable[str]) -> str:
    """Join texts on one line, with a semicolon behind those that do not end like a sentence."""
    line = ""
    for text in filter(None, texts):
        line += ("" if not line else " " if line[-1] in ".!?;:" else "; ") + text
    return line


def named_items(examples: Iterable[Example], query: Query) -> list[str]:
    """List the items whose vectors are needed, each once."""
    named: dict[str, None] = {}
    for example in examples:
        named.update(dict.fromkeys(example.history))
        if query == "candidate":
            named.update(dict.fromkeys(example.candidates))
    return list(named)
