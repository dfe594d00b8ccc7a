"""Hierarchical summaries ("CNN-like"): every block by itself, then merges of merges.

LLM-TRSR, section 3.3.1, for any length of history: where the block summaries do not fit
one prompt, neighbours are merged, level by level, until one is left.
"""

from collections.abc import Sequence

from trec_cli.core.blocks import split_blocks
from trec_cli.core.records import Block
from trec_cli.summarize.prompts import Ask, PromptWriter
from trec_cli.summarize.result import Result
from trec_cli.summarize.source import Answer


def summarize_hierarchical(
    histories: Sequence[Sequence[str]], writer: PromptWriter, ask: Ask
) -> list[Result]:
    """Summarise all histories together, one round of calls per level.

    A block whose summary is empty is kept in the record and left out of merges.
    """
    levels = [block_summaries(histories, writer, ask)]
    fronts = [_without_empty(blocks) for blocks in levels[0]]
    while any(len(front) > 1 for front in fronts):
        made, fronts = _merge_level(fronts, histories, writer, ask, len(levels))
        levels.append(made)
    return [
        Result(front[0].summary if front else "", [block for made in own for block in made])
        for front, *own in zip(fronts, *levels, strict=True)
    ]


def block_summaries(
    histories: Sequence[Sequence[str]], writer: PromptWriter, ask: Ask
) -> list[list[Block]]:
    """Summarise every block of every history (level 0)."""
    spans = [split_blocks(len(history), writer.settings.block_size) for history in histories]
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


def _without_empty(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.summary]
