"""A model in this process as the writer: its engine, and all that a run makes of its options."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from trec_cli.core.attributes import check_attributes
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Item
from trec_cli.models.chat import Frame
from trec_cli.models.device import choose_device
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.generate import GreedyDecoder, plan_batches, stop_tokens
from trec_cli.models.load import (
    LanguageModel,
    load_config,
    load_model,
    load_tokenizer,
    max_positions,
    model_identity,
    speed_up,
)
from trec_cli.models.source import Decoding, ModelSource
from trec_cli.models.vector_store import VectorStore
from trec_cli.models.vectors import VectorMaker, item_vectors
from trec_cli.summarize.attention import Attender, named_items
from trec_cli.summarize.engine import Engine, Generation, id_bytes
from trec_cli.summarize.prompts import (
    MODE_TEMPLATES,
    Prompt,
    PromptWriter,
    choose_domain,
    frame_for,
    load_templates,
)
from trec_cli.summarize.repair import Checker
from trec_cli.summarize.settings import SummarizeOptions, SummarySettings

_LIST_SHARE = 2
"""Of a list of keywords the model writes one part in so many."""
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
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Keep the model, its chat frame and the tokens of one batch at most.

        Args:
            load: gives the model; asked once, also for the engines of :meth:`retry`.
            frame: what stands around every message.
            decoding: how the model writes.
            identity: the model's; the decoding settings are added to it.
            max_tokens: of one batch, answers included.
            tell: is told where memory is too short for such a batch.
        """
        self._load, self._frame = cache(load), frame
        self._decoding, self._max_tokens, self._tell = decoding, max_tokens, tell
        self._again = partial(
            LocalEngine, self._load, frame, identity=identity, max_tokens=max_tokens, tell=tell
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
            llm.model,
            self._decoding,
            stops=stops,
            pad=pad,
            max_tokens=self._max_tokens,
            tell=self._tell,
        )

    def reads(self, prompt: Prompt) -> bytes:
        """Return the token ids."""
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
            index: Generation(text, len(prompt.ids), answer.steps, answer.stopped)
            for index, (prompt, answer, text) in enumerate(
                zip(prompts, answers, texts, strict=True)
            )
        }

    def retry(self, attempt: int) -> "LocalEngine":
        """Return the same model, with rules against repetition that get stricter."""
        return self._again(stricter(self._decoding, attempt))


def stricter(decoding: Decoding, attempt: int) -> Decoding:
    """Return decoding that leaves a rut: a higher penalty, and no three tokens twice."""
    penalty = round(decoding.repetition_penalty + _MORE_PENALTY * attempt, 6)
    ngram = decoding.no_repeat_ngram or _NO_REPEAT
    return dataclasses.replace(decoding, repetition_penalty=penalty, no_repeat_ngram=ngram)


@lru_cache(maxsize=1)
def line_ends(tokenizer: Any) -> frozenset[int]:
    """Collect the tokens that hold a line break, at which an answer of one line ends."""
    ids = range(len(tokenizer))
    texts = tokenizer.batch_decode([[i] for i in ids])
    return frozenset(i for i, text in zip(ids, texts, strict=True) if "\n" in text)


@dataclass(frozen=True)
class Setup:
    """How summaries are made: what a run works with, made of its options."""

    options: SummarizeOptions

    @property
    def summary(self) -> SummarySettings:
        """Sizes and texts of prompts."""
        return self.options.summary

    @property
    def decoding(self) -> Decoding:
        """How the model writes, where it may write a whole summary."""
        most = self.summary.summary_tokens
        return dataclasses.replace(self.options.decoding, max_new_tokens=most)

    @property
    def source(self) -> ModelSource:
        """Where the model lies."""
        return self.options.tokenized

    @cached_property
    def embedder(self) -> EmbedderSource | None:
        """What makes item vectors; None in the modes without attention."""
        options = self.options
        if options.mode != "attention":
            return None
        served = options.engine == "openai"
        return EmbedderSource.only(options.embedder, self.source, served=served)

    def writer(self, items: Mapping[str, Item]) -> PromptWriter:
        """Load the tokenizer and the templates; no weights.

        Raises:
            ModelError: the model's folder is not usable.
            UsageError: attributes that no item has, or sizes too small for a prompt.
        """
        check_attributes(self.summary.attributes, items)
        templates = load_templates(choose_domain(self.summary.domain, items), self.options.prompts)
        frame = frame_for(self.tokenizer, templates, self.summary.chat)
        writer = PromptWriter(
            self.tokenizer,
            frame,
            items,
            self.summary,
            prompts=self.options.prompts,
            most_tokens=self.most_tokens(),
        )
        writer.check(self.options.mode)
        return writer

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self.source)

    def most_tokens(self) -> int | None:
        """Return the tokens that a prompt with its answer may have; None where unbounded."""
        positions = max_positions(load_config(self.source))
        return (
            self.options.max_tokens
            if positions is None
            else min(self.options.max_tokens, positions)
        )

    @property
    def retries(self) -> int:
        """How often a bad text is asked for again; never where texts are left as they are."""
        return self.summary.retries if self.summary.repair else 0

    def identity(self) -> dict[str, Any]:
        """Return which model in which precision writes: part of every key of the store."""
        placement = choose_device(self.source.device, self.source.dtype)
        return {**model_identity(self.source), "dtype": placement.precision}

    def describe(self, writer: PromptWriter) -> dict[str, Any]:
        """Return everything that decides the summaries, beside the inputs."""
        sizes = self.summary.recorded()
        texts = [writer.templates[name].text for name in MODE_TEMPLATES[self.options.mode]]
        return {
            "mode": self.options.mode,
            "model": self.identity(),
            **sizes,
            "domain": writer.domain,
            "chat": writer.frame.chat,
            "prompt_tokens": writer.budget,
            "prompts": hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16],
            "decoding": dataclasses.asdict(self.decoding_of(writer)),
            "max_tokens": self.options.max_tokens,
            **self._describe_attention(),
        }

    def _describe_attention(self) -> dict[str, Any]:
        if self.embedder is None:
            return {}
        settings = dataclasses.asdict(self.options.attention)
        budget = self.options.attention.budget or self.summary.summary_tokens
        return {
            "attention": {**settings, "budget": budget},
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
        if self.embedder is None:
            return None
        named = named_items(examples, self.options.attention.query)
        with VectorStore(store) as vectors:
            maker = VectorMaker(
                self.embedder, vectors, max_tokens=self.options.max_tokens, progress=progress
            )
            found = item_vectors(items, named, maker, self.summary.attributes)
        return Attender(found, self.options.attention, writer), maker

    def decoding_of(self, writer: PromptWriter) -> Decoding:
        """Return the decoding: an answer that continues a line ends with that line.

        Of such a list the model writes a half: the other is for the newest items and for
        what most of them have in common, of which small models say too little.
        """
        if not writer.continues:
            return self.decoding
        most = self.decoding.max_new_tokens
        most = -(-most // _LIST_SHARE) if self.summary.repair else most
        return dataclasses.replace(self.decoding, one_line=True, max_new_tokens=most)

    def checker(self, writer: PromptWriter) -> Checker:
        """Return what checks the texts."""
        return Checker(
            budget=self.summary.summary_tokens,
            count=writer.tokens,
            one_line=writer.continues,
            repair=self.summary.repair,
            cut=writer.cut,
        )

    def engine(self, writer: PromptWriter, tell: Callable[[str], None]) -> tuple[Engine, str]:
        """Return the engine, and why it runs where it runs; it loads the model when it must.

        ``tell`` is told where memory is too short for a whole batch.

        Raises:
            UsageError: the device is not there.
        """
        engine = LocalEngine(
            self._load,
            writer.frame,
            self.decoding_of(writer),
            identity=self.identity(),
            max_tokens=self.options.max_tokens,
            tell=tell,
        )
        return engine, choose_device(self.source.device, self.source.dtype).reason

    def _load(self) -> LanguageModel:
        llm = load_model(self.source)
        speed_up(llm, head=True)
        return llm

    def advice(self) -> str:
        """Suggest what to try where the model writes badly."""
        return "a larger --model, another --domain, or --prompts of your own."

    def details(self) -> dict[str, Any]:
        """Return what the manifest should say of the engine's work, beside the counts."""
        return {}

    def most_cost(self, prompt_tokens: int, new_tokens: int) -> float:  # noqa: ARG002 - a server's
        """Return what so many tokens cost, in money: nothing here."""
        return 0.0
