"""The local engine: a transformers model in this process."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from trec_cli.llm.generate import Decoding, GreedyDecoder, plan_batches, stop_tokens
from trec_cli.llm.load import LanguageModel
from trec_cli.prompts.chat import Frame
from trec_cli.summarize.engine import Generation
from trec_cli.summarize.prompts import Prompt
from trec_cli.summarize.store import id_bytes

_MORE_PENALTY = 0.2
_NO_REPEAT = 3


class LocalEngine:
    """A transformers model in this process, decoded greedily, many prompts at once.

    Attributes:
        identity: see :class:`~trec_cli.summarize.engine.Engine`.
        decoder: what writes the tokens.
    """

    def __init__(
        self,
        llm: LanguageModel,
        frame: Frame,
        decoding: Decoding,
        *,
        identity: Mapping[str, Any],
        max_tokens: int,
    ) -> None:
        """Take the loaded model, its chat frame and the tokens of one batch at most.

        ``identity`` is the model's; the decoding settings are added to it.
        """
        self._tokenizer, self._decoding, self._max_tokens = llm.tokenizer, decoding, max_tokens
        self._again = partial(LocalEngine, llm, frame, identity=identity, max_tokens=max_tokens)
        pad = llm.tokenizer.pad_token_id or 0
        stops = stop_tokens(llm, frame)
        if decoding.one_line:
            stops |= line_ends(llm.tokenizer)
        self.decoder = GreedyDecoder(
            llm.model, decoding, stops=stops, pad=pad, max_tokens=max_tokens
        )
        self.identity: Mapping[str, Any] = {**identity, **dataclasses.asdict(decoding)}

    def reads(self, prompt: Prompt) -> bytes:
        """Give the token ids."""
        return id_bytes(prompt.ids)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Group prompts of similar length into a few times what runs at once."""
        return plan_batches(
            [len(prompt.ids) for prompt in prompts],
            max_new_tokens=self._decoding.max_new_tokens,
            max_tokens=self._max_tokens,
        )

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        """Decode all prompts in one go: their texts come together."""
        answers = self.decoder.decode([prompt.ids for prompt in prompts])
        texts = self._tokenizer.batch_decode([a.ids for a in answers], skip_special_tokens=True)
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
