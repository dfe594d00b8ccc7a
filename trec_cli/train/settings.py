"""What ``trec train`` is asked to do: every option, with its default and where it comes from.

Read by the command line without importing torch.
"""

from collections.abc import Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from trec_cli.core.cost import PlanOptions
from trec_cli.core.errors import UsageError
from trec_cli.core.files import (
    PANEL,
    Examples,
    Items,
    Limit,
    Mode,
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
from trec_cli.core.jsonl import check_streams, is_stream
from trec_cli.core.options import Option, refuse_unread
from trec_cli.models.source import MaxTokens, ModelSource
from trec_cli.prompts.settings import Prompts, PromptSettings, adapter_name

LossName = Literal["answer", "prompt", "listwise"]
TargetsName = Literal["last", "all"]
NegativesFrom = Literal["candidates", "catalogue"]
Quantization = Literal["4bit", "8bit"]
BestBy = Literal["mrr@10", "recall@1", "recall@3", "recall@5", "recall@10", "loss"]

BETAS = (0.9, 0.95)
"""AdamW's decay rates in the paper's code."""

BEFORE_OPTIONS: Mapping[str, object] = {
    "temperature": 1.0,
    "pointwise_weight": 0.2,
    "targets": "last",
    "min_history": 1,
    "max_targets": None,
    "negatives_from": "candidates",
    "lora_layers": None,
}
"""What adapters were trained with before these were options; such values stand in no manifest."""

MAX_GRADIENT_NORM = 1.0
"""Longer gradients are shortened to this length, as the Trainer does by default."""

_LEARN, _ADAPTER, _WATCH = "Learning", "Adapter", "Validation and checkpoints"


@dataclass(frozen=True)
class LoraSettings:
    """The adapter; defaults are those of the paper's code.

    Attributes:
        rank: inner dimension of the update.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: share of the adapter's inputs dropped in training.
        targets: names of the modules that get an adapter; None picks the attention
            projections of the model's family.
        layers: how many of the upper layers get one; None is all.  Layers below the lowest
            adapter run without gradients: a third of the layers trains 1.6 times as fast.
    """

    _: KW_ONLY
    rank: Annotated[
        int, Option("Inner dimension.", panel=_ADAPTER, names=("--lora-rank",), minimum=1)
    ] = 8
    alpha: Annotated[
        int, Option("Scale, over rank.", panel=_ADAPTER, names=("--lora-alpha",), minimum=1)
    ] = 16
    dropout: Annotated[
        float,
        Option(
            "Dropout in the adapter.",
            panel=_ADAPTER,
            names=("--lora-dropout",),
            minimum=0.0,
            maximum=0.99,
        ),
    ] = 0.05
    targets: Annotated[
        tuple[str, ...] | None,
        Option(
            "Modules that get an adapter: q_proj,v_proj",
            panel=_ADAPTER,
            names=("--target-modules",),
            default_text="the attention projections",
        ),
    ] = None
    layers: Annotated[
        int | None,
        Option(
            "Adapters in so many of the upper layers; those below need no backward pass.",
            panel=_ADAPTER,
            names=("--lora-layers",),
            minimum=1,
            default_text="all",
        ),
    ] = None


@dataclass(frozen=True)
class TrainSettings:
    """The training; where a default is not the paper's, `docs/train.md` says why.

    Attributes:
        loss: cross-entropy of the answer token, or of every token of the prompt too; or of the
            softmax over a positive's and its negatives' log-odds.
        temperature: of that softmax; None is 1 for log-odds, and for texts what suits the
            untrained model's scores (:mod:`trec_cli.train.untrained`).
        pointwise_weight: how much the loss of the single answers counts beside it.
        targets: learn the example's positives alone, or every item of the history too, each
            from the items before it.
        min_history: the fewest items before an item of the history that is learnt.
        max_targets: how many items of a user, the last among them, are learnt in an epoch; None
            is all.
        negatives_per_positive: negatives drawn per positive in each epoch.
        negatives_from: draw them from the example's candidates, or from all items.
        epochs: how often each example is seen (5 in the paper's code).
        users_per_step: examples in one optimizer step, over all processes.
        learning_rate: at its highest, after warm-up; it then falls linearly to zero.
        weight_decay: AdamW's.
        warmup: share of all steps in which the learning rate rises from zero.
        max_tokens: tokens in one forward pass.
        eval_every: steps between validations; None is once per epoch.
        valid_users: how many examples of split ``valid`` are ranked each time, 0 is none.
        best_by: validation metric that chooses the adapter kept.
        gradient_checkpointing: recompute activations in the backward pass to save memory.
        quantize: load the base model in 4 or 8 bits (CUDA only).
        seed: of every draw.
        processes: how many processes train together.
        lora: the adapter.
    """

    _: KW_ONLY
    loss: Annotated[
        LossName,
        Option(
            "Cross-entropy on the answer, on the whole prompt, or listwise: of a positive among "
            "its negatives.",
            panel=_LEARN,
        ),
    ] = "answer"
    temperature: Annotated[
        float | None,
        Option(
            "Divides the scores in --loss listwise.",
            panel=_LEARN,
            minimum=0.01,
            default_text="1; with --ask text what suits the untrained model",
        ),
    ] = None
    pointwise_weight: Annotated[
        float,
        Option("Weight of the answers' loss in --loss listwise.", panel=_LEARN, minimum=0.0),
    ] = 0.2
    targets: Annotated[
        TargetsName,
        Option(
            "Learn the last item of each user, or all: every item of the history as well that the "
            "prompt shows (--recent) and no summary tells (summarize --skip-recent).",
            panel=_LEARN,
        ),
    ] = "last"
    min_history: Annotated[
        int,
        Option("Fewest items before a learnt one, with --targets all.", panel=_LEARN, minimum=1),
    ] = 1
    max_targets: Annotated[
        int | None,
        Option(
            "Items of a user learnt in one epoch, with --targets all: the last and others drawn.",
            panel=_LEARN,
            minimum=1,
            default_text="all",
        ),
    ] = None
    negatives_per_positive: Annotated[
        int,
        Option("Negatives drawn per positive, others in each epoch.", panel=_LEARN, minimum=1),
    ] = 1
    negatives_from: Annotated[
        NegativesFrom,
        Option("Draw negatives from the example's candidates or from all items.", panel=_LEARN),
    ] = "candidates"
    epochs: Annotated[int, Option("Times each example is seen.", panel=_LEARN, minimum=1)] = 3
    users_per_step: Annotated[
        int, Option("Examples in one optimizer step.", panel=_LEARN, minimum=1)
    ] = 16
    learning_rate: Annotated[
        float, Option("After warm-up; falls linearly to 0.", panel=_LEARN, minimum=0.0)
    ] = 1e-4
    weight_decay: Annotated[float, Option("AdamW's.", panel=_LEARN, minimum=0.0)] = 5e-4
    warmup: Annotated[
        float,
        Option("Share of the steps with a rising rate.", panel=_LEARN, minimum=0.0, maximum=1.0),
    ] = 0.05
    max_tokens: MaxTokens = 4096
    eval_every: Annotated[
        int | None,
        Option(
            "Steps between validations.", panel=_WATCH, minimum=1, default_text="once per epoch"
        ),
    ] = None
    valid_users: Annotated[
        int, Option("Validation examples ranked; 0 is none.", panel=_WATCH, minimum=0)
    ] = 200
    best_by: Annotated[BestBy, Option("Validation metric of the adapter kept.", panel=_WATCH)] = (
        "mrr@10"
    )
    gradient_checkpointing: Annotated[
        bool, Option("Less memory for a third more computation.", panel=_LEARN)
    ] = False
    quantize: Annotated[
        Quantization | None,
        Option(
            "Base model in 4bit or 8bit (CUDA, bitsandbytes).", panel=_ADAPTER, default_text="no"
        ),
    ] = None
    seed: Seed = 0
    processes: int = 1
    lora: LoraSettings = LoraSettings()

    def __post_init__(self) -> None:
        """Refuse a step that leaves a process without a user.

        Raises:
            UsageError: there are fewer users in a step than processes.
        """
        if self.users_per_step < self.processes:
            raise UsageError(
                f"--users-per-step {self.users_per_step} is less than the {self.processes} "
                "processes; give every process a user"
            )


def against_base(ask: str, loss: str) -> bool:
    """Return whether texts are learnt against what the base model says without a user."""
    return ask == "text" and loss == "listwise"


def continues(ask: str, loss: str) -> bool:
    """Return whether texts are learnt by themselves: plain next-token training."""
    return ask == "text" and loss != "listwise"


@dataclass(frozen=True)
class TrainFiles:
    """What is read and written; ``summaries`` is None for mode ``none``."""

    items: Path
    examples: Path
    summaries: Path | None
    out: Path

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [self.items, self.examples, *([self.summaries] if self.summaries else [])]


@dataclass(frozen=True)
class TrainOptions:
    """Everything that ``trec train`` can be told.

    Attributes:
        run: folder in which files are found by name.
        mode: of the summaries.
        items, examples, summaries, out: files that are not those of ``run``.
        vectors: file of item vectors, where it does not lie beside the summaries.
        model: the base model.
        prompt: of the recommender.
        prompts: folder with own templates.
        training: what decides the adapter.
        merge: write full weights too.
        save_every: steps between checkpoints.
        report_to: trackers, as the Trainer names them.
        limit: use the first so many examples of each split.
        store: of texts' likelihoods without a user, for ``--ask text --loss listwise``.
    """

    _: KW_ONLY
    run: Run = None
    mode: Mode = "hier"
    items: Items = None
    examples: Examples = None
    summaries: Summaries = None
    vectors: Vectors = None
    out: Annotated[
        Path | None,
        Option(
            "Adapter folder to write; RUN/model-MODE by default.",
            panel=PANEL,
            names=("--out", "-o"),
        ),
    ] = None
    model: ModelSource = field(default_factory=ModelSource)
    prompt: PromptSettings = field(default_factory=PromptSettings)
    prompts: Prompts = None
    training: TrainSettings = field(default_factory=TrainSettings)
    merge: Annotated[
        bool, Option("Also write full weights, to RUN/model-MODE-merged.", panel=_ADAPTER)
    ] = False
    save_every: Annotated[int, Option("Steps between checkpoints.", panel=_WATCH, minimum=1)] = 50
    report_to: Annotated[
        tuple[str, ...],
        Option("Trackers as the Trainer has them: tensorboard,wandb", panel=_WATCH),
    ] = ("none",)
    limit: Limit = None
    store: Store = None
    plan: PlanOptions = field(default_factory=PlanOptions)

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: naming the options.
        """
        if self.out is not None and is_stream(self.out):
            raise UsageError("an adapter is a folder and cannot go to standard output")
        if self.prompt.ask == "text" and self.training.loss == "prompt":
            raise UsageError(
                "--loss prompt does not go with --ask text: there are no answers, and every token "
                "of the texts is learnt anyway"
            )
        if self.merge and self.against_base:
            raise UsageError(
                "--merge does not go with --ask text --loss listwise: the base model is asked, "
                "too, when such an adapter scores"
            )
        check_streams(
            {"--items": self.items, "--examples": self.examples, "--summaries": self.summaries}
        )

    def check(self, typed: Collection[str] = ()) -> None:
        """Refuse options on the command line that change nothing here.

        Args:
            typed: parameters that stand on the command line; in a preset or a file for several
                trainings an option may well be of no use.

        Raises:
            UsageError: naming the option.
        """
        loss, targets = self.training.loss, self.training.targets
        if targets == "last":
            refuse_unread(typed, {"min_history", "max_targets"}, "--targets all, not for last")
        if self.continues:
            foreign = {"max_targets", "negatives_per_positive", "negatives_from"}
            lists = "--loss listwise; without it texts are learnt by themselves, without negatives"
            refuse_unread(typed, foreign, lists)
        if loss != "listwise":
            foreign = {"temperature", "pointwise_weight"}
            refuse_unread(typed, foreign, f"--loss listwise, not for {loss}")
        if not self.against_base:
            refuse_unread(typed, {"store"}, "--ask text --loss listwise")

    def files(self) -> TrainFiles:
        """Find the files in the run folder, or where the user named them.

        Raises:
            UsageError: a file is neither named nor in a run folder, or the mode has none.
        """
        own = {"--items": self.items, "--examples": self.examples, "--out": self.out}
        check_named(self.run, own)
        return TrainFiles(
            items=resolve(self.items, self.run, "items"),
            examples=resolve(self.examples, self.run, "examples"),
            summaries=find_summaries(self.mode, self.summaries, self.run),
            out=resolve(self.out, self.run, "adapter", adapter_name(self.mode, self.prompt.ask)),
        )

    @property
    def store_file(self) -> Path:
        """The store: named, that of RUN, or one in memory."""
        return store_file(self.store, self.run)

    @property
    def against_base(self) -> bool:
        """Whether texts are learnt against what the base model says without a user."""
        return against_base(self.prompt.ask, self.training.loss)

    @property
    def continues(self) -> bool:
        """Whether texts are learnt by themselves, without negatives."""
        return continues(self.prompt.ask, self.training.loss)

    @property
    def trackers(self) -> tuple[str, ...]:
        """The experiment trackers; none by default."""
        return tuple(name for name in self.report_to if name != "none")

    @property
    def valid_limit(self) -> int:
        """How many validation examples are used."""
        asked = self.training.valid_users
        return asked if self.limit is None else min(asked, self.limit)

    def for_processes(self, count: int) -> TrainSettings:
        """Return the training's settings, whole, for so many processes together."""
        temperature = self.training.temperature or (None if self.against_base else 1.0)
        return replace(self.training, processes=count, temperature=temperature)
