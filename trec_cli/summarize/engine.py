"""Who writes the summaries, and where the texts are kept.

The modes know prompts and texts only; what turns one into the other is an engine.  A text
is found again by its content: a hash of the engine's identity (model, revision, decoding)
and of what it is given: the prompt's token ids, or the message where a server makes the
tokens.  Runs, modes and grown histories share one store (:mod:`trec_cli.core.database`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from trec_cli.core.database import ContentKeys, ContentStore
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
        """Return what the model is given of a prompt: the other part of the store's key."""

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Group prompts, by index, into what one call of :meth:`generate` gets."""

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        """Write one text per prompt; give texts by the index of their prompt, as they come.

        What is given together is kept together: an engine whose texts depend on each
        other's company (a batch on a device) gives them all at once, so that a killed run
        forms the same batches again; one that asks for each text by itself gives each at
        once, so that nothing is lost.

        Raises:
            ModelError: the model or its endpoint failed.
            PartialError: some prompts have no text; all others were given before.
        """

    def retry(self, attempt: int) -> "Engine | None":
        """Return an engine that writes other texts for the same prompts.

        It has an identity of its own.  ``attempt`` counts from 1; None where nothing else
        can be tried.
        """


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
