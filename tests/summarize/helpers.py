"""A scripted engine, a small catalogue and a writer, for tests of the summariser."""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any

from samples.tiny_model import build_tokenizer
from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Item
from trec_cli.models.chat import make_frame
from trec_cli.summarize.asking import Asker
from trec_cli.summarize.engine import Generation, Store, id_bytes
from trec_cli.summarize.prompts import Answer, Prompt, PromptWriter
from trec_cli.summarize.settings import SummarySettings

ITEMS = {f"i{n}": Item(f"i{n}", {"title": f"thing {n}"}) for n in range(60)}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@cache
def tokenizer() -> Any:
    return build_tokenizer()


def history(length: int) -> list[str]:
    return [f"i{n}" for n in range(length)]


def make_writer(
    settings: SummarySettings | None = None,
    items: Mapping[str, Item] = ITEMS,
    **more: Any,
) -> PromptWriter:
    frame = make_frame(tokenizer())
    return PromptWriter(tokenizer(), frame, items, settings or SummarySettings(), **more)


def narrow_writer(mode: str = "hier", **sizes: Any) -> PromptWriter:
    """Give the writer with the smallest budget that still works: two summaries a merge."""

    # Prompts of equal length, so that a budget for one is a budget for all.
    short = {"domain": "sentences", **sizes}

    def works(budget: int) -> bool:
        try:
            make_writer(SummarySettings(prompt_tokens=budget, **short)).check(mode)
        except UsageError:
            return False
        return True

    budget = bisect_left(range(4096), True, key=works)
    return make_writer(SummarySettings(prompt_tokens=budget, **short))


class ScriptedEngine:
    """Gives queued answers, or letters (a, b, c, …), and remembers what it was asked."""

    def __init__(self, answers: Iterable[str] = LETTERS, batch: int = 1000) -> None:
        self.identity: Mapping[str, Any] = {"name": "scripted"}
        self.answers = deque(answers)
        self.asked: list[Prompt] = []
        self.sizes: list[int] = []
        self._batch = batch

    def retry(self, attempt: int) -> "ScriptedEngine":
        """Give the same script under another identity."""
        again = copy(self)
        again.identity = {**self.identity, "attempt": attempt}
        return again

    def reads(self, prompt: Prompt) -> bytes:
        return id_bytes(prompt.ids)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        places = range(len(prompts))
        return [list(places[at : at + self._batch]) for at in places[:: self._batch]]

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        self.asked += prompts
        self.sizes.append(len(prompts))
        yield {
            place: Generation(self.answers.popleft(), len(prompt.ids), 1, True)
            for place, prompt in enumerate(prompts)
        }


def make_asker(engine: ScriptedEngine, store: Store | None = None, **more: Any) -> Asker:
    return Asker(engine, store or Store(IN_MEMORY), **more)


def texts_of(answers: Iterable[Answer]) -> list[str]:
    return [answer.text for answer in answers]
