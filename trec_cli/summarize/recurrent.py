"""Recurrent summaries ("RNN-like"): each block updates the summary of all before it.

LLM-TRSR, section 3.3.2.
"""

from collections.abc import Sequence

from trec_cli.core.blocks import split_blocks
from trec_cli.core.records import Block
from trec_cli.summarize.prompts import Ask, Prompt, PromptWriter
from trec_cli.summarize.result import Result


def summarize_recurrent(
    histories: Sequence[Sequence[str]], writer: PromptWriter, ask: Ask
) -> list[Result]:
    """Summarise all histories together, one round of calls per step."""
    spans = [split_blocks(len(history), writer.settings.block_size) for history in histories]
    chains: list[list[Block]] = [[] for _ in histories]
    for step in range(max(map(len, spans), default=0)):
        live = [place for place, own in enumerate(spans) if step < len(own)]
        prompts = [
            _step_prompt(writer, chains[place], histories[place], spans[place][step])
            for place in live
        ]
        answers = ask(prompts, f"step {step + 1}")
        for place, answer in zip(live, answers, strict=True):
            end = spans[place][step][1]
            chains[place].append(
                Block(level=step, start=0, end=end, summary=answer.text, flags=answer.flags)
            )
    return [Result(_last(chain), chain) for chain in chains]


def _last(chain: Sequence[Block]) -> str:
    """Give the last summary that is not empty."""
    return next((block.summary for block in reversed(chain) if block.summary), "")


def _step_prompt(
    writer: PromptWriter, chain: Sequence[Block], history: Sequence[str], span: tuple[int, int]
) -> Prompt:
    """Update the summary so far; where there is none (or an empty one), start with the block."""
    start, end = span
    if chain and chain[-1].summary:
        return writer.update(chain[-1].summary, history[:end], end - start)
    return writer.block(history[start:end])
