"""The options of ``trec recommend``, each declared once; imports nothing heavy."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from trec_cli.core.errors import UsageError
from trec_cli.core.files import (
    Examples,
    FilesOfRun,
    Items,
    Limit,
    Out,
    Run,
    Seed,
    Store,
    resolve,
    store_file,
)
from trec_cli.core.jsonl import check_streams, is_stream
from trec_cli.core.options import Option, refuse_unread
from trec_cli.core.records import PREDICT, Split
from trec_cli.retrieve.settings import EXACT_MOST, SearchKind, parse_only, parse_since
from trec_cli.score.recommendations import SUFFIXES, check_format, has_reasons
from trec_cli.sequence.settings import SequenceModels, models_of

PANEL = "What is recommended"
NAME = "catalogue"
"""In ``recommendations-NAME.jsonl``: candidates come from the whole catalogue."""


@dataclass(frozen=True, kw_only=True)
class RecommendOptions(FilesOfRun):
    """All options of ``trec recommend``.

    Attributes:
        top: items per user.
        shortlist: write questions with so many candidates instead, for another scorer.
        only: filters ``ATTRIBUTE=VALUE``.
        since: filter ``ATTRIBUTE=DATE``.
        search: exact, approximate, or by the number of items.
        embedder: of item vectors; without one they are made of term counts (LSA).
        sequence_models: signals of the blend.
        reasons: whether each item names the history item that speaks for it.
        keep_lists: whether lists are kept though items or weights of the blend are new.
        show: users shown on the screen.
    """

    run: Run = None
    split: Annotated[Split, Option("Users to recommend to.", panel=PANEL)] = PREDICT
    top: Annotated[int, Option("Items per user.", panel=PANEL, minimum=1)] = 10
    shortlist: Annotated[
        int | None,
        Option(
            "Write questions with the N best candidates instead, for trec score --examples.",
            panel=PANEL,
            minimum=1,
        ),
    ] = None
    exclude: Annotated[
        Path | None,
        Option(
            "File of item ids that are not recommended, one per line (out of stock).", panel=PANEL
        ),
    ] = None
    only: Annotated[
        tuple[str, ...],
        Option(
            "Recommend only items with this value, such as category=news; may be given again.",
            panel=PANEL,
            metavar="ATTRIBUTE=VALUE",
            repeatable=True,
        ),
    ] = ()
    since: Annotated[
        str | None,
        Option(
            "Recommend only items whose attribute is this date or later: published=2024-05-01.",
            panel=PANEL,
            metavar="ATTRIBUTE=DATE",
        ),
    ] = None
    search: Annotated[
        SearchKind,
        Option(
            "Score the whole catalogue, or only what approximate search finds (faster with many "
            "items; needs the extra ann of trec-cli).",
            panel=PANEL,
            default_text=f"exact up to {EXACT_MOST:,} items",
        ),
    ] = "auto"
    repeats: Annotated[
        bool,
        Option(
            "Recommend items that the user has taken already, too.",
            panel=PANEL,
            names=("--repeats",),
        ),
    ] = False
    embedder: Annotated[
        str | None,
        Option(
            "Embedders of item vectors, with commas between: sentence-embedding models and "
            "language models (Hugging Face names or folders).",
            panel=PANEL,
            default_text="none: vectors are made of term counts",
        ),
    ] = None
    sequence_models: SequenceModels = None
    reasons: Annotated[
        bool,
        Option(
            "Name the history item and the signal that speak most for each item (JSONL only).",
            panel=PANEL,
            names=("--reasons/--no-reasons",),
        ),
    ] = True
    keep_lists: Annotated[
        bool,
        Option(
            "Keep the list of a user whose history is the same even where items or weights are "
            "new.",
            panel=PANEL,
            names=("--keep-lists",),
        ),
    ] = False
    show: Annotated[int, Option("Users to show on the screen.", panel=PANEL, minimum=0)] = 3
    items: Items = None
    examples: Examples = None
    out: Out = None
    store: Store = None
    limit: Limit = None
    seed: Seed = 0

    def models(self, items: int) -> int:
        """Return how many sequence models the blend has over a catalogue of so many items."""
        return models_of(self.sequence_models, embedded=self.embedder is not None, items=items)

    @property
    def store_file(self) -> Path:
        """The store of vectors: named, that of RUN, or one in memory."""
        return store_file(self.store, self.run)

    @property
    def weights_file(self) -> Path | None:
        """The weights of the blend in RUN, from one night to the next."""
        return None if self.run is None else self.run / "model-blend-catalogue.json"

    @property
    def learnt_folder(self) -> Path | None:
        """What took long to learn, in RUN."""
        return None if self.run is None else self.run / "learnt-blend-catalogue"

    @property
    def out_file(self) -> Path:
        """The output: named, or by its kind in RUN."""
        if self.shortlist is not None and self.out is None and self.run is not None:
            return self.run / "shortlist.jsonl"
        name = NAME if self.split == PREDICT else f"{NAME}-{self.split}"
        return resolve(self.out, self.run, "recommendations", name)

    def check(self, typed: Collection[str] = ()) -> None:
        """Refuse what contradicts itself, and options on the command line that change nothing.

        Args:
            typed: parameters that stand on the command line; in a file for several nights an
                option may well be of no use.

        Raises:
            UsageError: naming the options.
        """
        self._refuse_unread(typed)
        parse_only(self.only)
        parse_since(self.since)
        streams = {"--items": self.items, "--examples": self.examples, "--exclude": self.exclude}
        check_streams(streams)
        if self.shortlist is not None:
            if self.out and not is_stream(self.out) and self.out.suffix != ".jsonl":
                raise UsageError(f"--out {self.out}: a shortlist is written as .jsonl")
        elif self.out:
            check_format(self.out)

    def _refuse_unread(self, typed: Collection[str]) -> None:
        if self.shortlist is not None:
            of_lists = {"top", "reasons", "show", "keep_lists"}
            refuse_unread(typed, of_lists, "lists, not for the questions of --shortlist")
        if self.out is not None and is_stream(self.out):
            refuse_unread(typed, {"keep_lists"}, "an output in a file, not for --out -")
        elif self.out is not None and self.out.suffix in SUFFIXES and not has_reasons(self.out):
            refuse_unread(typed, {"reasons"}, f"JSONL, not for {self.out.suffix}")
        if self.embedder is None:
            refuse_unread(typed, {"store"}, "the vectors of --embedder")
