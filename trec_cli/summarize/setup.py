"""From settings to what a run works with: the prompt writer, the engine, the manifest."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trec_cli.attributes import check_attributes
from trec_cli.embedding.model import EmbedderSource
from trec_cli.embedding.store import VectorStore
from trec_cli.embedding.vectors import VectorMaker, item_vectors
from trec_cli.llm.device import choose_device
from trec_cli.llm.generate import Decoding
from trec_cli.llm.load import (
    ModelSource,
    load_config,
    load_model,
    load_tokenizer,
    max_positions,
    model_identity,
)
from trec_cli.progress import Progress
from trec_cli.prompts.chat import Frame, make_frame
from trec_cli.records import Example, Item
from trec_cli.summarize.attention import Attender, AttentionSettings, named_items
from trec_cli.summarize.local import LocalEngine
from trec_cli.summarize.prompts import MODE_TEMPLATES, PromptWriter
from trec_cli.summarize.settings import SummarySettings


@dataclass(frozen=True)
class Setup:
    """How summaries are made.

    Attributes:
        mode: ``hier``, ``recurrent`` or ``attention``.
        summary: sizes and texts of prompts.
        decoding: how the model writes.
        source: which model.
        max_tokens: tokens of one batch, answers included.
        prompts: the user's folder of templates.
        attention, embedder: of mode ``attention`` alone.
    """

    mode: str
    summary: SummarySettings
    decoding: Decoding
    source: ModelSource
    max_tokens: int
    prompts: Path | None = None
    attention: AttentionSettings | None = None
    embedder: EmbedderSource | None = None

    def writer(self, items: Mapping[str, Item]) -> PromptWriter:
        """Load the tokenizer and the templates; no weights.

        Raises:
            ModelError: the model's folder is not usable.
            UsageError: attributes that no item has, or sizes too small for a prompt.
        """
        check_attributes(self.summary.attributes, items)
        tokenizer = load_tokenizer(self.source)
        positions = max_positions(load_config(self.source))
        most = self.max_tokens if positions is None else min(self.max_tokens, positions)
        frame = make_frame(tokenizer, chat=self.summary.chat)
        writer = PromptWriter(
            tokenizer, frame, items, self.summary, prompts=self.prompts, most_tokens=most
        )
        writer.check(self.mode)
        return writer

    def identity(self) -> dict[str, str]:
        """Say which model in which precision writes: part of every key of the store."""
        placement = choose_device(self.source.device, self.source.dtype)
        return {**model_identity(self.source), "dtype": str(placement.dtype).split(".")[-1]}

    def describe(self, writer: PromptWriter) -> dict[str, Any]:
        """Give everything that decides the summaries, beside the inputs."""
        sizes = dataclasses.asdict(self.summary)
        texts = [writer.templates[name].text for name in MODE_TEMPLATES[self.mode]]
        return {
            "mode": self.mode,
            "model": self.identity(),
            **sizes,
            "chat": writer.frame.chat,
            "prompt_tokens": writer.budget,
            "prompts": hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16],
            "decoding": dataclasses.asdict(self.decoding),
            "max_tokens": self.max_tokens,
            **self._describe_attention(),
        }

    def _describe_attention(self) -> dict[str, Any]:
        if self.attention is None or self.embedder is None:
            return {}
        return {
            "attention": dataclasses.asdict(self.attention),
            "embedder": self.embedder.identity(),
        }

    def attender(
        self,
        items: Mapping[str, Item],
        examples: Sequence[Example],
        writer: PromptWriter,
        store: Path,
        progress: Progress,
    ) -> tuple[Attender, VectorMaker] | None:
        """Embed the items that the examples name; None in the modes without attention.

        Raises:
            ModelError: the embedder cannot be loaded or used.
        """
        if self.attention is None or self.embedder is None:
            return None
        named = named_items(examples, self.attention.query)
        with VectorStore(store) as vectors:
            maker = VectorMaker(
                self.embedder, vectors, max_tokens=self.max_tokens, progress=progress
            )
            found = item_vectors(items, named, maker, self.summary.attributes)
        return Attender(found, self.attention, writer), maker

    def engine(self, frame: Frame) -> tuple[LocalEngine, str]:
        """Load the model; give the engine and why it runs where it runs."""
        llm = load_model(self.source)
        engine = LocalEngine(
            llm, frame, self.decoding, identity=self.identity(), max_tokens=self.max_tokens
        )
        return engine, llm.placement.reason
