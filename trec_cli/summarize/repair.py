"""From what a model wrote to what is kept: checked, mended, or refused.

A text that is refused is asked for again with other decoding, and in the end replaced by
:func:`trec_cli.summarize.extract.extract` (see :class:`trec_cli.summarize.asking.Asker`).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trec_cli.core.records import FLAGS
from trec_cli.summarize.engine import Generation
from trec_cli.summarize.extract import extend, extract
from trec_cli.summarize.prompts import Answer, Prompt, SourceTexts
from trec_cli.summarize.quality import in_one, is_echo, item_supports, measure
from trec_cli.summarize.text import clean, cut_back, ground, says, support

LEAST_FAITHFUL = 0.95
"""Share of content words that must occur in the items."""
MOST_REPEATED = 0.2
"""Share of word sequences that may have come before."""
LEAST_PARTS = 0.5
"""Share of the items or summaries of which a text must say something."""
FAR_BEYOND = 2
"""A text of so many times its budget ignores the limit; another tokenizer may count a little
more than ours."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A text after all checks.

    Attributes:
        answer: the text as it would be kept.
        faults: the flags for which it is refused (empty, echo, unfaithful, narrow, repeats);
            none where it is good.
    """

    answer: Answer
    faults: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Checker:
    """Checks texts, and mends those that can be mended.

    Attributes:
        budget: tokens of a summary.
        count: counts the tokens of a text.
        one_line: the answer is the first line; what a model adds behind it is not meant.
        repair: False only flags what is wrong, and refuses nothing.
        cut: gives a text cut after so many tokens; None where no text is ever too long.
    """

    budget: int
    count: Callable[[str], int]
    one_line: bool = False
    repair: bool = True
    cut: Callable[[str, int], str] | None = None

    def check(self, prompt: Prompt, generation: Generation) -> Verdict:
        """Judge the answer to a prompt."""
        first, behind, _ = generation.text.strip().partition("\n" if self.one_line else "\0")
        text, flags = clean(first), set[str]()
        if not (generation.stopped or behind):
            flags.add("cut")
        if self.repair:
            text = self._limited(text, flags)
            text = self._extended(prompt.source, self._mended(prompt.source, text, flags), flags)
        faults = frozenset(_faults(prompt, text))
        answer = Answer(text, _ordered(flags | faults))
        return Verdict(answer, faults if self.repair else frozenset())

    def _limited(self, text: str, flags: set[str]) -> str:
        """Cut what a server wrote beyond its limit: checking pages of it would take hours."""
        if self.cut is None or self.count(text) <= FAR_BEYOND * self.budget:
            return text
        flags.add("cut")
        return self.cut(text, self.budget)

    @staticmethod
    def _mended(source: SourceTexts, text: str, flags: set[str]) -> str:
        """Cut back to a whole phrase, and drop what has no support or comes again."""
        whole = cut_back(text) if "cut" in flags else text
        supports = item_supports(source.items)
        grounded = ground(_without_labels(whole, source), lambda phrase: in_one(phrase, supports))
        flags.update(["filtered"] * bool(grounded.dropped))
        return grounded.text

    def _extended(self, source: SourceTexts, text: str, flags: set[str]) -> str:
        """Add what a text leaves out; one that says nothing is not worth it."""
        longer = extend(text, source, self.budget, self.count) if says(text) else text
        flags.update(["extended"] * (longer != text))
        return longer

    def replace(self, prompt: Prompt, verdict: Verdict) -> Answer:
        """Return the deterministic summary in place of a text that was refused."""
        text = extract(prompt.source, self.budget, self.count)
        return Answer(text, _ordered({*verdict.faults, "extractive"}))


def _without_labels(text: str, source: SourceTexts) -> str:
    """Remove names of attributes from the front of phrases ("brand: Falke")."""
    names = {name for item in source.items for name in item.attributes}
    if not names:
        return text
    labels = "|".join(sorted(map(re.escape, names)))
    return re.sub(rf"(^|[,;]\s+)(?:{labels}):\s+", r"\1", text, flags=re.IGNORECASE)


def retried(verdict: Verdict) -> Verdict:
    """Mark a text as that of a second attempt."""
    answer = verdict.answer
    return Verdict(Answer(answer.text, _ordered({*answer.flags, "retried"})), verdict.faults)


def _ordered(flags: set[str] | frozenset[str]) -> tuple[str, ...]:
    return tuple(flag for flag in FLAGS if flag in flags)


def _faults(prompt: Prompt, text: str) -> list[str]:
    """Name all that is wrong with a text."""
    source = prompt.source
    if not says(text) and any(says(item.text()) for item in source.items):
        return ["empty"]
    found = measure(text, source.items)
    faithful = found.faithfulness
    checks = {
        "echo": is_echo(text, prompt.instruction) or _copies(text, source),
        "unfaithful": faithful is not None and faithful < LEAST_FAITHFUL,
        "narrow": _is_narrow(text, source),
        "repeats": found.ngrams_repeated > MOST_REPEATED * max(1, found.ngrams),
    }
    return [name for name, wrong in checks.items() if wrong]


def _copies(text: str, source: SourceTexts) -> bool:
    """Return whether a text says what one summary says, although the rest says more."""
    own, parts = says(text), [says(part) for part in _parts(source)]
    copied = own in parts[: len(source.summaries)]
    return copied and not all(part <= own for part in parts)


def _is_narrow(text: str, source: SourceTexts) -> bool:
    """Return whether a text covers too little of its source: half of it, and always the newest.

    Of a few items any half will do; of summaries more than half, so that of two both count.
    """
    own = says(text)
    said = [bool(own & support([part])) for part in _parts(source)]
    if not source.summaries:
        return sum(said) < LEAST_PARTS * len(said)
    return not said[-1] or sum(said) <= LEAST_PARTS * len(said)


def _parts(source: SourceTexts) -> Sequence[str]:
    """Return the texts of which a summary should say something, oldest first."""
    shown = [item.text() for item in source.shown]
    if not source.summaries:
        return shown
    return [*source.summaries, " ".join(shown)] if shown else source.summaries
