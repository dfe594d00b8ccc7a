"""Hierarchical and recurrent summaries: which texts are asked for, round by round.

*Hierarchical* ("CNN-like", LLM-TRSR, section 3.3.1): every block by itself, then merges of
merges.  Where the block summaries do not fit one prompt, neighbours are merged, level by
level, until one is left.

*Recurrent* ("RNN-like", section 3.3.2): each block updates the summary of all before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trec_cli.core.blocks import Span, split_blocks
from trec_cli.core.records import Attention, Block
from trec_cli.summarize.prompts import Answer, Ask, Prompt, PromptWriter


@dataclass(frozen=True)
class Result:
    """The final summary and every intermediate one, in the order in which they were made."""

    summary: str
    blocks: list[Block]
    attention: Attention | None = None


class Summarizer(Protocol):
    """Summarises many histories together, so that the calls of a round share batches."""

    def __call__(
        self,
        histories: Sequence[Sequence[str]],
        writer: PromptWriter,
        ask: Ask,
        starts: Sequence[int] = (),
    ) -> list[Result]:
        """Return one result per history.

        Args:
            histories: item ids, oldest first.
            writer: writes the prompts.
            ask: answers them.
            starts: how many older items each history has lost; none by default.
        """


def summarize_hierarchical(
    histories: Sequence[Sequence[str]],
    writer: PromptWriter,
    ask: Ask,
    starts: Sequence[int] = (),
) -> list[Result]:
    """Summarise all histories together, one round of calls per level.

    A block whose summary is empty is kept in the record and left out of merges.
    """
    levels = [_block_summaries(histories, writer, ask, starts)]
    fronts = [[block for block in blocks if block.summary] for blocks in levels[0]]
    while any(len(front) > 1 for front in fronts):
        made, fronts = _merge_level(fronts, histories, writer, ask, len(levels))
        levels.append(made)
    return [
        Result(front[0].summary if front else "", [block for made in own for block in made])
        for front, *own in zip(fronts, *levels, strict=True)
    ]


def summarize_blocks(
    histories: Sequence[Sequence[str]],
    writer: PromptWriter,
    ask: Ask,
    starts: Sequence[int] = (),
) -> list[Result]:
    """Summarise every block of every history, and merge nothing: attention weighs them."""
    return [Result("", blocks) for blocks in _block_summaries(histories, writer, ask, starts)]


def _spans(
    histories: Sequence[Sequence[str]], writer: PromptWriter, starts: Sequence[int]
) -> list[list[Span]]:
    """Cut every history into blocks."""
    size = writer.settings.block_size
    pairs = zip(histories, starts or [0] * len(histories), strict=True)
    return [split_blocks(len(history), size, start) for history, start in pairs]


def _block_summaries(
    histories: Sequence[Sequence[str]], writer: PromptWriter, ask: Ask, starts: Sequence[int]
) -> list[list[Block]]:
    """Summarise every block of every history (level 0)."""
    spans = _spans(histories, writer, starts)
    prompts = [
        writer.block(history[start:end])
        for history, own in zip(histories, spans, strict=True)
        for start, end in own
    ]
    answers = iter(ask(prompts, "blocks"))
    return [[_block(0, start, end, next(answers)) for start, end in own] for own in spans]


def _merge_level(
    fronts: Sequence[list[Block]],
    histories: Sequence[Sequence[str]],
    writer: PromptWriter,
    ask: Ask,
    level: int,
) -> tuple[list[list[Block]], list[list[Block]]]:
    """Merge neighbours of every front; give the new blocks and the new fronts.

    Two summaries always fit (``PromptWriter.check``), so every front of two or more gets
    shorter.  A block without a partner moves up as it is, without a call; so does the
    newest of those whose merge has an empty answer, so that something always remains.
    """
    groups = [_groups(front, writer) for front in fronts]
    prompts = [
        writer.merge([block.summary for block in group], history[group[0].start : group[-1].end])
        for history, own in zip(histories, groups, strict=True)
        for group in own
        if len(group) > 1
    ]
    answers = iter(ask(prompts, f"merge {level}"))
    made: list[list[Block]] = []
    after: list[list[Block]] = []
    for own in groups:
        moved = [group[0] if len(group) == 1 else _merged(group, next(answers)) for group in own]
        made.append([block for block, group in zip(moved, own, strict=True) if len(group) > 1])
        after.append(
            [new if new.summary else group[-1] for new, group in zip(moved, own, strict=True)]
        )
    return made, after


def _groups(front: list[Block], writer: PromptWriter) -> list[list[Block]]:
    if len(front) < 2:
        return [[block] for block in front]
    spans = writer.merge_groups([block.summary for block in front])
    return [front[start:end] for start, end in spans]


def _merged(group: Sequence[Block], answer: Answer) -> Block:
    level = max(block.level for block in group) + 1
    return _block(level, group[0].start, group[-1].end, answer)


def _block(level: int, start: int, end: int, answer: Answer) -> Block:
    return Block(level=level, start=start, end=end, summary=answer.text, flags=answer.flags)


def summarize_recurrent(
    histories: Sequence[Sequence[str]],
    writer: PromptWriter,
    ask: Ask,
    starts: Sequence[int] = (),
) -> list[Result]:
    """Summarise all histories together, one round of calls per step."""
    spans = _spans(histories, writer, starts)
    chains: list[list[Block]] = [[] for _ in histories]
    for step in range(max(map(len, spans), default=0)):
        live = [index for index, own in enumerate(spans) if step < len(own)]
        prompts = [
            _step_prompt(writer, chains[index], histories[index], spans[index], step)
            for index in live
        ]
        answers = ask(prompts, f"step {step + 1}")
        for index, answer in zip(live, answers, strict=True):
            first, last = spans[index][0], spans[index][step]
            chains[index].append(_block(step, first[0], last[1], answer))
    return [Result(_last(chain), chain) for chain in chains]


def _last(chain: Sequence[Block]) -> str:
    """Return the last summary that is not empty."""
    return next((block.summary for block in reversed(chain) if block.summary), "")


def _step_prompt(
    writer: PromptWriter,
    chain: Sequence[Block],
    history: Sequence[str],
    spans: Sequence[Span],
    step: int,
) -> Prompt:
    """Update the summary so far; where there is none (or an empty one), start with the block."""
    (first, _), (start, end) = spans[0], spans[step]
    if chain and chain[-1].summary:
        return writer.update(chain[-1].summary, history[first:end], end - start)
    return writer.block(history[start:end])
