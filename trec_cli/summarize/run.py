"""Summaries of all examples, in waves of users, and the estimate of what that would cost."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

from trec_cli.records import Example, Mode, Summary
from trec_cli.summarize.hierarchical import summarize_hierarchical
from trec_cli.summarize.prompts import Ask, Prompt, PromptWriter
from trec_cli.summarize.recurrent import summarize_recurrent
from trec_cli.summarize.result import Result
from trec_cli.summarize.store import Keys

Summarizer = Callable[[Sequence[Sequence[str]], PromptWriter, Ask], list[Result]]
SUMMARIZERS: Mapping[str, Summarizer] = MappingProxyType(
    {"hier": summarize_hierarchical, "recurrent": summarize_recurrent}
)
WAVE = 2048
"""Examples worked on together: enough for full batches, few enough to fit in memory."""


def summarize(
    examples: Iterable[Example], mode: Mode, writer: PromptWriter, ask: Ask, model: str
) -> Iterator[Summary]:
    """Summarise examples in their order, :data:`WAVE` at a time.

    Memory depends on the wave, not on the number of examples.
    """
    examples = iter(examples)
    while wave := list(islice(examples, WAVE)):
        results = SUMMARIZERS[mode]([example.history for example in wave], writer, ask)
        for example, result in zip(wave, results, strict=True):
            yield _record(example, mode, result, model)


def no_summaries(examples: Iterable[Example]) -> Iterator[Summary]:
    """Give an empty summary for every example: the recommender without long-term interest."""
    for example in examples:
        yield _record(example, "none", Result("", []), "none")


def _record(example: Example, mode: Mode, result: Result, model: str) -> Summary:
    return Summary(
        example_id=example.example_id,
        user_id=example.user_id,
        split=example.split,
        mode=mode,
        summary=result.summary,
        blocks=result.blocks,
        model=model,
    )


@dataclass
class Round:
    """Calls of one kind (blocks, merge 1, step 2, …) and the tokens they read."""

    calls: int = 0
    prompt_tokens: int = 0


@dataclass
class Estimate:
    """What a run would cost at most: nothing in the store, every summary as long as allowed.

    Attributes:
        rounds: by what is asked, in order.
        shared: requests answered together with an equal one.
    """

    rounds: dict[str, Round] = field(default_factory=dict)
    shared: int = 0

    @property
    def calls(self) -> int:
        """Calls of all rounds."""
        return sum(each.calls for each in self.rounds.values())

    @property
    def prompt_tokens(self) -> int:
        """Tokens to read in all rounds."""
        return sum(each.prompt_tokens for each in self.rounds.values())


def estimate(examples: Iterable[Example], mode: Mode, writer: PromptWriter) -> Estimate:
    """Walk through a run without a model: placeholders stand for the summaries."""
    result, keys, seen = Estimate(), Keys({}), set[bytes]()

    def ask(prompts: Sequence[Prompt], what: str) -> list[str]:
        answers = []
        for prompt in prompts:
            key = keys.key(prompt.ids)
            if key in seen:
                result.shared += 1
            else:
                each = result.rounds.setdefault(what, Round())
                each.calls += 1
                each.prompt_tokens += len(prompt.ids)
            seen.add(key)
            # The key makes different prompts have different answers, as they would.
            answers.append(key.hex() + " x" * writer.settings.summary_tokens)
        return answers

    for _ in summarize(examples, mode, writer, ask, ""):
        pass
    return result
