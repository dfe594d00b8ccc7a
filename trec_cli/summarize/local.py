"""The local engine: a transformers model in this process."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache, partial
from typing import Any

from trec_cli.models.chat import Frame
from trec_cli.models.generate import Decoding, GreedyDecoder, plan_batches, stop_tokens
from trec_cli.models.load import LanguageModel
from trec_cli.summarize.engine import Generation
from trec_cli.summarize.prompts import Prompt
from trec_cli.summarize.store import id_bytes

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
