"""Who writes the summaries, and where the texts are kept.

The modes know prompts and texts only; what turns one into the other is an engine.  A text
is found again by its content: a hash of the engine's identity (model, revision, decoding)
and of what it is given: the prompt's token ids, or the message where a server makes the
tokens.  Runs, modes and grown histories share one store (:mod:`trec_cli.core.database`).
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from typing import Any, ClassVar, Protocol

import numpy as np

from trec_cli.core.database import IN_MEMORY, ContentKeys, ContentStore
from trec_cli.models.chat import Frame
from trec_cli.models.generate import GreedyDecoder, plan_batches, stop_tokens
from trec_cli.models.load import LanguageModel
from trec_cli.models.source import Decoding
from trec_cli.summarize.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine wrote.

    Attributes:
        text: the answer as it came, not cleaned.
        prompt_tokens, new_tokens: tokens read and written.
        stopped: whether the model ended by itself; False at the length limit.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    stopped: bool


class Engine(Protocol):
    """Writes texts for prompts.

    ``identity`` holds everything that, together with the prompt, decides the text: model,
    revision, decoding.  It is part of every key of the store.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides a text, beside the prompt; plain JSON values."""

    def reads(self, prompt: Prompt) -> bytes:
        """Give what the model is given of a prompt: the other part of the store's key."""

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Group prompts, by index, into what one call of :meth:`generate` gets."""

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        """Write one text per prompt; give texts by the place of their prompt, as they come.

        What is given together is kept together: an engine whose texts depend on each
        other's company (a batch on a device) gives them all at once, so that a killed run
        forms the same batches again; one that asks for each text by itself gives each at
        once, so that nothing is lost.

        Raises:
            ModelError: the model or its endpoint failed.
            PartialError: some prompts have no text; all others were given before.
        """

    def retry(self, attempt: int) -> "Engine | None":
        """Give an engine that writes other texts for the same prompts.

        It has an identity of its own.  ``attempt`` counts from 1; None where nothing else
        can be tried.
        """


__all__ = ["IN_MEMORY", "Keys", "Store", "id_bytes"]


def id_bytes(ids: Sequence[int]) -> bytes:
    """Write token ids as bytes, four each, little-endian."""
    return np.asarray(ids, dtype="<u4").tobytes()


class Keys(ContentKeys):
    """Makes the keys of one engine's texts."""

    def key(self, ids: Sequence[int]) -> bytes:
        """Hash the prompt's token ids together with the engine's identity."""
        return self.of(id_bytes(ids))


class Store(ContentStore[Generation]):
    """Texts by key."""

    table = "generations"
    columns: ClassVar[dict[str, str]] = {
        "text": "TEXT NOT NULL",
        "prompt_tokens": "INTEGER NOT NULL",
        "new_tokens": "INTEGER NOT NULL",
        "stopped": "INTEGER NOT NULL",
    }

    def _to_row(self, value: Generation) -> tuple[Any, ...]:
        return value.text, value.prompt_tokens, value.new_tokens, value.stopped

    def _from_row(self, *row: Any) -> Generation:
        text, prompt_tokens, new_tokens, stopped = row
        return Generation(text, prompt_tokens, new_tokens, bool(stopped))


_MORE_PENALTY = 0.2
_NO_REPEAT = 3


class LocalEngine:
    """A transformers model in this process, decoded greedily, many prompts at once.

    The weights are loaded for the first text that is not in the store.

    Attributes:
        identity: see :class:`~trec_cli.summarize.engine.Engine`.
    """

    def __init__(
        self,
        load: Callable[[], LanguageModel],
        frame: Frame,
        decoding: Decoding,
        *,
        identity: Mapping[str, Any],
        max_tokens: int,
    ) -> None:
        """Take the model, its chat frame and the tokens of one batch at most.

        Args:
            load: gives the model; asked once, also for the engines of :meth:`retry`.
            frame: what stands around every message.
            decoding: how the model writes.
            identity: the model's; the decoding settings are added to it.
            max_tokens: of one batch, answers included.
        """
        self._load, self._frame = cache(load), frame
        self._decoding, self._max_tokens = decoding, max_tokens
        self._again = partial(
            LocalEngine, self._load, frame, identity=identity, max_tokens=max_tokens
        )
        self.identity: Mapping[str, Any] = {**identity, **dataclasses.asdict(decoding)}

    @cached_property
    def decoder(self) -> GreedyDecoder:
        """What writes the tokens.

        Raises:
            ModelError: the model cannot be loaded.
        """
        llm = self._load()
        stops = stop_tokens(llm, self._frame)
        if self._decoding.one_line:
            stops |= line_ends(llm.tokenizer)
        pad = llm.tokenizer.pad_token_id or 0
        return GreedyDecoder(
            llm.model, self._decoding, stops=stops, pad=pad, max_tokens=self._max_tokens
        )

    def reads(self, prompt: Prompt) -> bytes:
        """Give the token ids."""
        return id_bytes(prompt.ids)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Group prompts of similar length into a few times what runs at once.

        Here the weights are loaded, so that nobody takes that for the time of writing.

        Raises:
            ModelError: the model cannot be loaded.
        """
        if prompts:
            _ = self.decoder
        return plan_batches(
            [len(prompt.ids) for prompt in prompts],
            max_new_tokens=self._decoding.max_new_tokens,
            max_tokens=self._max_tokens,
        )

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        """Decode all prompts in one go: their texts come together."""
        answers = self.decoder.decode([prompt.ids for prompt in prompts])
        tokenizer = self._load().tokenizer
        texts = tokenizer.batch_decode([a.ids for a in answers], skip_special_tokens=True)
        yield {
            place: Generation(text, len(prompt.ids), answer.steps, answer.stopped)
            for place, (prompt, answer, text) in enumerate(
                zip(prompts, answers, texts, strict=True)
            )
        }

    def retry(self, attempt: int) -> "LocalEngine":
        """Give the same model, with rules against repetition that get stricter."""
        return self._again(stricter(self._decoding, attempt))


def stricter(decoding: Decoding, attempt: int) -> Decoding:
    """Give decoding that leaves a rut: a higher penalty, and no three tokens twice."""
    penalty = round(decoding.repetition_penalty + _MORE_PENALTY * attempt, 6)
    ngram = decoding.no_repeat_ngram or _NO_REPEAT
    return dataclasses.replace(decoding, repetition_penalty=penalty, no_repeat_ngram=ngram)


@lru_cache(maxsize=1)
def line_ends(tokenizer: Any) -> frozenset[int]:
    """Collect the tokens that hold a line break, at which an answer of one line ends."""
    ids = range(len(tokenizer))
    texts = tokenizer.batch_decode([[i] for i in ids])
    return frozenset(i for i, text in zip(ids, texts, strict=True) if "\n" in text)
