"""Who writes the summaries: the protocol of an engine.

The modes know prompts and texts only; what turns one into the other is an engine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
