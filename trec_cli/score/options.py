"""The options of ``trec score``, each declared once; no torch needed.

They stand in groups.  A scorer gets the groups that it reads
(:mod:`~trec_cli.score.kinds`), and an option that it does not read is refused.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from trec_cli.core.cost import PlanOptions
from trec_cli.core.errors import UsageError
from trec_cli.core.files import (
    Examples,
    FilesOfRun,
    Items,
    Limit,
    Mode,
    Out,
    Run,
    Seed,
    Store,
    Summaries,
    Vectors,
    check_named,
    find_summaries,
    resolve,
    store_file,
)
from trec_cli.core.jsonl import check_streams
from trec_cli.core.options import Option
from trec_cli.core.records import Split
from trec_cli.core.shards import Shard, ShardName, find_shard
from trec_cli.models.endpoint.settings import PANEL as SERVER_PANEL
from trec_cli.models.endpoint.settings import Engine, ServerOptions
from trec_cli.models.source import DEFAULT_EMBEDDER, EmbedderName, MaxTokens, ModelSource
from trec_cli.models.workers import RayOptions
from trec_cli.prompts.settings import Prompts, PromptSettings
from trec_cli.recbole import TrainOn
from trec_cli.score.recommendations import check_format
from trec_cli.sequence.settings import SequenceModels, SequenceSettings

PANEL = "What is scored, and by what"


@dataclass(frozen=True, kw_only=True)
class Asked(FilesOfRun):
    """What is scored.

    Attributes:
        run: folder in which files are found that are not named.
        items, examples: files.
        split: of the examples.
        limit: score the first so many of them.
        seed: of every random draw.
    """

    run: Run = None
    items: Items = None
    examples: Examples = None
    split: Annotated[Split, Option("Examples to score.", panel=PANEL)] = "test"
    limit: Limit = None
    seed: Seed = 0

    def files(self, summaries: Path | None = None) -> list[Path]:
        """Return the files to read, with those summaries where there are some."""
        return [self.items_file, self.examples_file, *([summaries] if summaries else [])]


@dataclass(frozen=True, kw_only=True)
class LlmOptions:
    """What a language model is asked with, wherever it runs.

    Attributes:
        adapter: folder that was named, or None.
        zero_shot: take no adapter.
        no_user: ask without summary and history, what the model says of an item alone.
        engine: where the model runs.
        summaries, vectors: files; found in RUN and beside the summaries where not named.
        prompts: folder with own templates.
        shard: part of the examples, ``I/N``; None scores all.
    """

    adapter: Annotated[
        Path | None,
        Option("Adapter folder.", panel=PANEL, default_text="RUN/model-MODE where it is"),
    ] = None
    zero_shot: Annotated[
        bool,
        Option("Leave the adapter out: the base model.", panel=PANEL, names=("--zero-shot",)),
    ] = False
    no_user: Annotated[
        bool,
        Option(
            "Leave summary and history out of every prompt: what the model makes of the item "
            "alone (docs/audit.md).",
            panel=PANEL,
            names=("--no-user",),
        ),
    ] = False
    engine: Engine = "local"
    summaries: Summaries = None
    vectors: Vectors = None
    prompts: Prompts = None
    shard: ShardName = None


@dataclass(frozen=True, kw_only=True)
class ServedOptions(ServerOptions):
    """The server, and how it is asked for scores.

    Attributes:
        top_logprobs: tokens whose log-probabilities are returned.
        check_with: name or folder of the served model, to compare some scores with.
    """

    top_logprobs: Annotated[
        int,
        Option(
            "Tokens whose log-probabilities are asked for; yes and no must be among them "
            "(vLLM returns them anyway).",
            panel=SERVER_PANEL,
            minimum=1,
        ),
    ] = 20
    check_with: Annotated[
        str | None,
        Option("The same model here, to compare two users' scores with.", panel=SERVER_PANEL),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions:
    """What makes the vectors of items, and where they are kept."""

    embedder: EmbedderName = DEFAULT_EMBEDDER
    store: Store = None

    def store_file(self, run: Path | None) -> Path:
        """Return the store: named, that of RUN, or one in memory."""
        return store_file(self.store, run)


@dataclass(frozen=True, kw_only=True)
class LiftOptions:
    """Which scores are subtracted from which."""

    of: Annotated[
        Path | None,
        Option(
            "Scores with the user, for --scorer lift.",
            panel=PANEL,
            default_text="RUN/scores-MODE.jsonl",
        ),
    ] = None
    minus: Annotated[
        Path | None,
        Option(
            "Scores without, for --scorer lift.",
            panel=PANEL,
            default_text="RUN/scores-MODE-no-user.jsonl",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RecboleOptions:
    """How a model of RecBole is trained."""

    recbole_python: Annotated[
        Path | None,
        Option(
            "Python of RecBole's environment, for recbole:MODEL.",
            panel=PANEL,
            envvar="TREC_RECBOLE_PYTHON",
        ),
    ] = None
    train_on: Annotated[
        TrainOn,
        Option(
            "recbole:MODEL learns from train and the histories of valid and test, or train alone.",
            panel=PANEL,
        ),
    ] = "histories"


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """All options of ``trec score``.

    Attributes:
        mode: names summaries and adapter.
        scorer: see :mod:`~trec_cli.score.kinds`.
        name: of the system.
        top: write so many recommendations a user instead of scores.
        tune: choose the settings of a baseline on split valid.
        stack: systems whose scores are weighed and added.
        sequence_models: signals of the blend.
        max_tokens: of one forward pass.
    """

    mode: Mode = "hier"
    scorer: Annotated[
        str,
        Option(
            "llm, embedding, or without a model: popularity, random, recency, bm25, "
            "cooccurrence, blend (all cheap signals, weighed on train and valid); sequence (a "
            "small transformer over text vectors, docs/sequence.md); signal:NAME (one signal of "
            "the blend, docs/recommend.md); lift (scores with the user less those of --no-user, "
            "docs/audit.md); stack (several systems' scores, weighed on split valid, "
            "docs/baselines.md); or trained by RecBole: recbole:SASRec "
            "(docs/baselines.md).",
            panel=PANEL,
        ),
    ] = "llm"
    name: Annotated[
        str | None,
        Option(
            "Name of the system, in scores-NAME.jsonl and in every table.",
            panel=PANEL,
            default_text="MODE, MODE-zeroshot, MODE-no-user, MODE-lift, A+B of a stack, or the "
            "scorer; -SPLIT behind it where it is not test",
        ),
    ] = None
    top: Annotated[
        int | None,
        Option(
            "Write the N best items of every user instead of scores: recommendations-NAME.jsonl, "
            "or --out FILE.jsonl, .csv or .parquet.",
            panel=PANEL,
            recorded="count",
            minimum=1,
        ),
    ] = None
    tune: Annotated[
        bool,
        Option(
            "Choose the settings of recency, bm25, cooccurrence, embedding or recbole:MODEL on "
            "split valid, or take their defaults (docs/baselines.md).",
            panel=PANEL,
            names=("--tune/--no-tune",),
        ),
    ] = True
    asked: Asked = field(default_factory=Asked)
    out: Out = None
    llm: LlmOptions = field(default_factory=LlmOptions)
    lift: LiftOptions = field(default_factory=LiftOptions)
    stack: Annotated[
        tuple[str, ...] | None,
        Option(
            "Systems to stack, for --scorer stack: names in RUN, or files of scores; each with "
            "scores of split valid beside it.",
            panel=PANEL,
        ),
    ] = None
    recbole: RecboleOptions = field(default_factory=RecboleOptions)
    served: ServedOptions = field(default_factory=ServedOptions)
    ray: RayOptions = field(default_factory=RayOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    source: ModelSource = field(default_factory=ModelSource)
    embedding: EmbeddingOptions = field(default_factory=EmbeddingOptions)
    sequence_models: SequenceModels = None
    sequence: SequenceSettings = field(default_factory=SequenceSettings)
    max_tokens: MaxTokens = 4096
    prompt: PromptSettings = field(default_factory=PromptSettings)

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: naming the options.
        """
        if self.llm.zero_shot and self.llm.adapter:
            raise UsageError("--zero-shot and --adapter exclude each other; leave one out")
        if self.name and Path(self.name).name != self.name:
            raise UsageError(f"--name {self.name} is part of a file name and cannot hold a slash")
        if self.top and self.out:
            check_format(self.out)
        asked = {"--items": self.asked.items, "--examples": self.asked.examples}
        check_named(self.asked.run, {**asked, "--out": self.out})
        check_streams({**asked, "--summaries": self.llm.summaries})
        find_shard(self.llm.shard, [*asked.values(), self.llm.summaries])

    @property
    def shard(self) -> Shard | None:
        """Part of the examples; None for all."""
        return find_shard(self.llm.shard)

    def summaries_file(self) -> Path | None:
        """Return the summaries of the mode; None for mode ``none``."""
        return find_summaries(self.mode, self.llm.summaries, self.asked.run)

    def out_file(self, system: str) -> Path:
        """Return the output: as named, else by the system's name (and split) in RUN.

        A shard writes beside it.

        Raises:
            UsageError: neither --out nor RUN was given.
        """
        kind, usual = ("recommendations", "predict") if self.top else ("scores", "test")
        split = self.asked.split
        name = self.name or (system if split == usual else f"{system}-{split}")
        out = resolve(self.out, self.asked.run, kind, name)
        return self.shard.out(out) if self.shard else out
