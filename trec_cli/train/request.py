"""What a user asks of ``trec train``, checked before anything is read; no torch needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import check_streams, is_stream
from trec_cli.train.settings import TrainSettings


@dataclass(frozen=True)
class TrainRequest:
    """What was asked for.

    Attributes:
        mode: of the summaries.
        items, examples: files.
        summaries: file; None for mode ``none``.
        out: the adapter folder.
        source: fields of :class:`~trec_cli.models.source.ModelSource`.
        prompt: fields of :class:`~trec_cli.prompts.settings.PromptSettings`.
        prompts: folder with own templates.
        settings: of the training.
        limit: use the first so many examples of each split.
        save_every: steps between checkpoints.
        report_to: trackers, as the Trainer names them.
        merge: write full weights too.
        overwrite: replace what is there.
        vectors: file of item vectors, where it does not lie beside the summaries.
    """

    mode: str
    items: Path
    examples: Path
    summaries: Path | None
    out: Path
    source: Mapping[str, Any]
    prompt: Mapping[str, Any]
    prompts: Path | None
    settings: TrainSettings
    limit: int | None
    save_every: int
    report_to: tuple[str, ...]
    merge: bool
    overwrite: bool
    vectors: Path | None = None

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: naming the options.
        """
        if is_stream(self.out):
            raise UsageError("an adapter is a folder and cannot go to standard output")
        check_streams(
            {"--items": self.items, "--examples": self.examples, "--summaries": self.summaries}
        )

    @property
    def valid_limit(self) -> int:
        """How many validation examples are used."""
        asked = self.settings.valid_users
        return asked if self.limit is None else min(asked, self.limit)

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [self.items, self.examples, *([self.summaries] if self.summaries else [])]
