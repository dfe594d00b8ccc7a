"""What a user asks of ``trec score``, checked before anything is read; no torch needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.attention.target import TargetAttention
from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import check_streams, content_hash, is_stream
from trec_cli.core.records import Example, Item, Split
from trec_cli.models.source import DEFAULT_EMBEDDER, ModelSource
from trec_cli.prompts.recommend import SETTINGS_FILE, LearntPrompt, load_settings
from trec_cli.prompts.settings import PromptSettings
from trec_cli.score.adapters import Adapter, check_attention, check_prompt, read_adapter
from trec_cli.score.names import EMBEDDING, LLM, RECBOLE

_OPTION_FIELDS = {
    "recent": "recent",
    "max_length": "max_length",
    "candidate_tokens": "candidate_tokens",
    "attributes": "attributes",
    "chat_template": "chat",
}
"""Options that decide the prompt, and their fields in :class:`PromptSettings`."""


@dataclass(frozen=True)
class ScoreRequest:
    """Files, scorer, model and prompt.

    Attributes:
        mode: of the summaries.
        split: of the examples to score.
        scorer: ``llm`` or a baseline.
        adapter: folder that was named, or None.
        usual_adapter: folder that is taken where it exists and none was named.
        zero_shot: take no adapter.
        items, examples: files.
        summaries: file; None for mode ``none``.
        vectors: file of item vectors, where it does not lie beside the summaries.
        embedder: of the scorer ``embedding``.
        store: where its vectors are kept.
        source: the base model, and where it runs.
        max_tokens: of one forward pass.
        prompt: its settings, where no adapter brings them.
        prompts: folder with own templates.
        seed: of the random baseline.
        limit: score the first so many examples.
        given: options that the user gave, and did not leave at their defaults.
        typed: those of them on the command line; a config file may hold the options of
            several scorers.
        recbole_python: interpreter of RecBole's environment.
        train_on: what RecBole's models learn from, ``histories`` or ``train``.
        tune: choose the settings of a baseline on split valid.
    """

    mode: str
    split: Split
    scorer: str
    adapter: Path | None
    usual_adapter: Path | None
    zero_shot: bool
    items: Path
    examples: Path
    summaries: Path | None
    source: ModelSource
    max_tokens: int
    prompt: PromptSettings
    prompts: Path | None
    seed: int
    limit: int | None
    vectors: Path | None = None
    embedder: str = DEFAULT_EMBEDDER
    store: Path = IN_MEMORY
    given: frozenset[str] = frozenset()
    typed: frozenset[str] = frozenset()
    recbole_python: Path | None = None
    train_on: str = "histories"
    tune: bool = True

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: naming the options.
        """
        if self.zero_shot and self.adapter:
            raise UsageError("--zero-shot and --adapter exclude each other; leave one out")
        check_streams(
            {"--items": self.items, "--examples": self.examples, "--summaries": self.summaries}
        )
        foreign = self.typed & {
            "adapter",
            "zero_shot",
            "model",
            "engine",
            "prompts",
            *_OPTION_FIELDS,
        }
        if self.scorer == EMBEDDING:
            foreign -= {"model", "attributes"}
        elif "embedder" in self.typed:
            raise UsageError("--embedder is for --scorer embedding")
        if self.scorer != LLM and foreign:
            option = min(foreign).replace("_", "-")
            raise UsageError(f"--{option} is for --scorer llm, not for {self.scorer}")
        self._check_tuning()

    def check_files(self) -> None:
        """See that all inputs are there, before a model is looked for.

        Raises:
            InputError: naming one that is not.
        """
        for path in (self.items, self.examples, self.summaries):
            if path and not is_stream(path) and not path.exists():
                raise InputError.of(path, "no such file", "check the name, or run the stage before")

    def _check_tuning(self) -> None:
        """Refuse the option on the command line where it would change nothing."""
        if "tune" not in self.typed:
            return
        option = "--tune" if self.tune else "--no-tune"
        if self.scorer == LLM:
            raise UsageError(
                f"{option} is for the baselines, not for --scorer llm, which has no settings to try"
            )
        if self.scorer.startswith(RECBOLE):
            raise UsageError(
                f"{option} is not for {self.scorer}: RecBole's models are always tuned"
            )

    def find_adapter(self) -> Adapter | None:
        """Find the adapter, and refuse options that do not fit it.

        Raises:
            InputError: the adapter is damaged or not there.
            UsageError: it has another base model or prompt than was asked for.
        """
        folder = self.adapter
        if folder is None and not self.zero_shot:
            usual = self.usual_adapter
            folder = usual if usual is not None and usual.is_dir() else None
        if folder is None:
            return None
        adapter = read_adapter(folder)
        if "model" in self.given:
            adapter.check_base(self.source.name)
        self._check_prompt(adapter.learnt.settings, folder)
        return adapter

    def _check_prompt(self, learnt: PromptSettings, folder: Path) -> None:
        """Refuse options that would change the prompt which ``folder`` brings."""
        if "prompts" in self.given:
            raise UsageError(
                f"--prompts cannot be used with {folder}, which brings its own template in "
                "prompt.json; leave it out, or score the base model (--zero-shot)"
            )
        fields = [field for option, field in _OPTION_FIELDS.items() if option in self.given]
        check_prompt(learnt, folder, {field: getattr(self.prompt, field) for field in fields})

    def base_model(self, adapter: Adapter | None) -> str:
        """Name the base model: the one given, else the adapter's, else the default."""
        if adapter is None or "model" in self.given:
            return self.source.name
        return adapter.base_model

    def learnt_prompt(self, adapter: Adapter | None) -> LearntPrompt | None:
        """Give the prompt of the adapter, or of a merged model (``trec train --merge``).

        None where nothing was trained: then the prompt is the one asked for.

        Raises:
            UsageError: another prompt was asked for.
        """
        if adapter:
            return adapter.learnt
        merged = Path(self.source.name)
        if not (merged / SETTINGS_FILE).is_file():
            return None
        learnt = load_settings(merged)
        self._check_prompt(learnt.settings, merged)
        return learnt

    def check_target(self, adapter: Adapter | None, target: TargetAttention) -> str:
        """Refuse evidence of another kind than was learnt from; give a warning, or nothing.

        Raises:
            UsageError: see :func:`~trec_cli.score.adapters.check_attention`.
        """
        learnt = self.learnt_prompt(adapter)
        folder = adapter.folder if adapter else Path(self.source.name)
        attention = learnt.attention if learnt else None
        return check_attention(attention, folder, target.recorded(), target.files[0])

    @property
    def files(self) -> list[Path]:
        """The input files."""
        return [path for path in (self.items, self.examples, self.summaries) if path]

    def settings(
        self, items: Mapping[str, Item], records: Sequence[msgspec.Struct]
    ) -> dict[str, Any]:
        """Settings that every scorer has.

        ``items`` and ``records`` were read; they are hashed where one of the files is
        standard input, whose name says nothing of it.
        """
        common = {"scorer": self.scorer, "split": self.split, "limit": self.limit}
        if not any(map(is_stream, self.files)):
            return common
        read = [*(items.values() if is_stream(self.items) else ()), *records]
        return {**common, "streamed": content_hash(read)}

    def choose(self, examples: Sequence[Example]) -> list[Example]:
        """Take the first examples of the split.

        Raises:
            InputError: there is none.
        """
        chosen = [example for example in examples if example.split == self.split]
        if not chosen:
            raise InputError.of(
                self.examples,
                f"holds no example of split {self.split}",
                "choose another --split, or prepare the data with one",
            )
        bare = sum(not example.candidates for example in chosen[: self.limit])
        if bare:
            raise InputError.of(
                self.examples,
                f"holds {bare:,} examples of split {self.split} without candidates",
                "run trec prepare with --candidates, or name candidates in the file",
            )
        return chosen[: self.limit]
