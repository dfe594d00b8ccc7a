"""``trec train``: examples and summaries become a LoRA adapter."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.inputs import resolve
from trec_cli.commands.preview import show_prompt
from trec_cli.commands.options import (
    Attributes,
    CandidateTokens,
    ChatTemplate,
    Config,
    Debug,
    Device,
    DryRun,
    Dtype,
    Examples,
    Items,
    JsonLine,
    Limit,
    MaxLength,
    MaxTokens,
    Mode,
    Model,
    Overwrite,
    Prompts,
    Quiet,
    Recent,
    Revision,
    Run,
    Seed,
    Summaries,
    TrustRemoteCode,
    names,
)
from trec_cli.errors import UsageError
from trec_cli.jsonl import is_stream
from trec_cli.llm import DEFAULT_MODEL
from trec_cli.outputs import locked
from trec_cli.records import MODES

if TYPE_CHECKING:
    from trec_cli.llm.device import Placement
    from trec_cli.llm.load import ModelSource
    from trec_cli.manifest import Provenance
    from trec_cli.prompts.recommend import PromptBuilder
    from trec_cli.training.card import Card
    from trec_cli.training.dataset import Question
    from trec_cli.training.processes import Processes
    from trec_cli.training.run import Outcome, Prepared
    from trec_cli.training.settings import TrainSettings

_LEARN, _ADAPTER, _WATCH = "Learning", "Adapter", "Validation and checkpoints"


def _option(panel: str, name: str, help_: str, shown: str | None = None, **more: Any) -> Any:
    """Describe an option; ``shown`` is the default in words, where None means something."""
    return typer.Option(name, help=help_, rich_help_panel=panel, show_default=shown or True, **more)


Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Adapter folder to write; RUN/model-MODE by default.",
        rich_help_panel="Files (each overrides the one found in RUN)",
    ),
]
Loss = Annotated[
    str, _option(_LEARN, "--loss", "Cross-entropy on the answer, or on the whole prompt.")
]
NegativesPerPositive = Annotated[
    int,
    _option(
        _LEARN,
        "--negatives-per-positive",
        "Negatives drawn per positive, anew in each epoch.",
        min=1,
    ),
]
Epochs = Annotated[int, _option(_LEARN, "--epochs", "Times each example is seen.", min=1)]
UsersPerStep = Annotated[
    int, _option(_LEARN, "--users-per-step", "Examples in one optimizer step.", min=1)
]
LearningRate = Annotated[
    float, _option(_LEARN, "--learning-rate", "After warm-up; falls linearly to 0.", min=0.0)
]
WeightDecay = Annotated[float, _option(_LEARN, "--weight-decay", "AdamW's.", min=0.0)]
Warmup = Annotated[
    float,
    _option(_LEARN, "--warmup", "Share of the steps with a rising rate.", min=0.0, max=1.0),
]
GradientCheckpointing = Annotated[
    bool,
    _option(_LEARN, "--gradient-checkpointing", "Less memory for a third more computation."),
]
LoraRank = Annotated[int, _option(_ADAPTER, "--lora-rank", "Inner dimension.", min=1)]
LoraAlpha = Annotated[int, _option(_ADAPTER, "--lora-alpha", "Scale, over rank.", min=1)]
LoraDropout = Annotated[
    float, _option(_ADAPTER, "--lora-dropout", "Dropout in the adapter.", min=0.0, max=0.99)
]
TargetModules = Annotated[
    str | None,
    _option(
        _ADAPTER,
        "--target-modules",
        "Modules that get an adapter: q_proj,v_proj",
        "the attention projections",
    ),
]
Quantize = Annotated[
    str | None,
    _option(_ADAPTER, "--quantize", "Base model in 4bit or 8bit (CUDA, bitsandbytes).", "no"),
]
Merge = Annotated[
    bool, _option(_ADAPTER, "--merge", "Also write full weights, to RUN/model-MODE-merged.")
]
EvalEvery = Annotated[
    int | None,
    _option(_WATCH, "--eval-every", "Steps between validations.", "once per epoch", min=1),
]
ValidUsers = Annotated[
    int, _option(_WATCH, "--valid-users", "Validation examples ranked; 0 is none.", min=0)
]
BestBy = Annotated[
    str,
    _option(_WATCH, "--best-by", "Metric of the adapter kept: mrr@10, recall@1 … @10, loss."),
]
SaveEvery = Annotated[int, _option(_WATCH, "--save-every", "Steps between checkpoints.", min=1)]
ReportTo = Annotated[
    str,
    _option(_WATCH, "--report-to", "Trackers as the Trainer has them: tensorboard,wandb"),
]


@dataclass(frozen=True)
class _Request:
    """What was asked for."""

    mode: str
    items: Path
    examples: Path
    summaries: Path | None
    out: Path
    source: Mapping[str, Any]
    prompt: Mapping[str, Any]
    prompts: Path | None
    learning: Mapping[str, Any]
    lora: Mapping[str, Any]
    limit: int | None
    save_every: int
    report_to: tuple[str, ...]
    merge: bool
    overwrite: bool

    def check(self) -> None:
        """Refuse what contradicts itself."""
        if self.mode not in MODES:
            raise UsageError(f"--mode {self.mode}: choose one of {', '.join(MODES)}")
        if is_stream(self.out):
            raise UsageError("an adapter is a folder and cannot go to standard output")
        streams = [path for path in self.inputs if is_stream(path)]
        if len(streams) > 1:
            raise UsageError("--examples and --summaries cannot both be standard input")

    @property
    def valid_limit(self) -> int:
        """How many validation examples are used."""
        asked: int = self.learning["valid_users"]
        return asked if self.limit is None else min(asked, self.limit)

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [self.items, self.examples, *([self.summaries] if self.summaries else [])]


def train(
    run: Run = None,
    mode: Mode = "hier",
    items: Items = None,
    examples: Examples = None,
    summaries: Summaries = None,
    out: Out = None,
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_tokens: MaxTokens = 4096,
    recent: Recent = 3,
    max_length: MaxLength = 2048,
    candidate_tokens: CandidateTokens = 512,
    attributes: Attributes = None,
    chat_template: ChatTemplate = None,
    prompts: Prompts = None,
    loss: Loss = "answer",
    negatives_per_positive: NegativesPerPositive = 1,
    epochs: Epochs = 3,
    users_per_step: UsersPerStep = 16,
    learning_rate: LearningRate = 1e-4,
    weight_decay: WeightDecay = 5e-4,
    warmup: Warmup = 0.05,
    gradient_checkpointing: GradientCheckpointing = False,
    lora_rank: LoraRank = 8,
    lora_alpha: LoraAlpha = 16,
    lora_dropout: LoraDropout = 0.05,
    target_modules: TargetModules = None,
    quantize: Quantize = None,
    merge: Merge = False,
    eval_every: EvalEvery = None,
    valid_users: ValidUsers = 200,
    best_by: BestBy = "mrr@10",
    save_every: SaveEvery = 50,
    report_to: ReportTo = "none",
    limit: Limit = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json_line: JsonLine = False,
    debug: Debug = False,
    config: Config = None,  # noqa: ARG001 - its callback has read it
) -> None:
    """Train a LoRA adapter that answers whether a user will choose a candidate.

    Splits train and valid of the examples are used. Killed, the same command continues from
    the last checkpoint and ends with the same adapter.

    [bold]trec train runs/sample --mode hier --epochs 3[/]

    [bold]torchrun --nproc-per-node 2 -m trec_cli train runs/sample[/] for two GPUs.
    """
    processes = _processes()
    silent = not processes.is_main
    with stage(
        "train", quiet=quiet or silent, json_line=json_line and not silent, debug=debug
    ) as terminal:
        request = _Request(
            mode=mode,
            items=resolve(items, run, "items"),
            examples=resolve(examples, run, "examples"),
            summaries=None if mode == "none" else resolve(summaries, run, "summaries", mode),
            out=resolve(out, run, "adapter", mode),
            source={
                "name": model,
                "revision": revision,
                "trust_remote_code": trust_remote_code,
                "device": device,
                "dtype": dtype,
            },
            prompt={
                "recent": recent,
                "max_length": max_length,
                "candidate_tokens": candidate_tokens,
                "attributes": names(attributes),
                "chat": chat_template,
            },
            prompts=prompts,
            learning={
                "loss": loss,
                "negatives_per_positive": negatives_per_positive,
                "epochs": epochs,
                "users_per_step": users_per_step,
                "learning_rate": learning_rate,
                "weight_decay": weight_decay,
                "warmup": warmup,
                "max_tokens": max_tokens,
                "eval_every": eval_every,
                "valid_users": valid_users,
                "best_by": best_by,
                "gradient_checkpointing": gradient_checkpointing,
                "quantize": quantize,
                "seed": seed,
                "processes": processes.count,
            },
            lora={
                "rank": lora_rank,
                "alpha": lora_alpha,
                "dropout": lora_dropout,
                "targets": names(target_modules),
            },
            limit=limit,
            save_every=save_every,
            report_to=tuple(name for name in names(report_to) or () if name != "none"),
            merge=merge,
            overwrite=overwrite,
        )
        request.check()
        _train(request, processes, terminal, dry_run)


def _processes() -> "Processes":
    from trec_cli.training.processes import Processes

    return Processes.here()


@dataclass(frozen=True)
class _Task:
    """A training with its inputs read, before any weights are loaded."""

    source: "ModelSource"
    settings: "TrainSettings"
    builder: "PromptBuilder"
    train: "list[Question]"
    valid: "list[Question]"
    provenance: "Provenance"

    @property
    def placement(self) -> "Placement":
        """Where the model will be."""
        from trec_cli.llm.device import choose_device

        return choose_device(self.source.device, self.source.dtype)

    def prepare(self, terminal: Terminal) -> "Prepared":
        """Measure all prompts and plan the steps."""
        from trec_cli.training.run import prepare

        device = self.placement.device
        prepared = prepare(self.train, self.valid, self.builder, self.settings, device, terminal)
        for warning in prepared.warnings():
            terminal.warn(warning)
        return prepared


def _train(request: _Request, processes: "Processes", terminal: Terminal, dry_run: bool) -> None:
    """Train, unless it is done already, and tell what came of it."""
    from trec_cli.training.lora import check_quantization
    from trec_cli.training.settings import LoraSettings, TrainSettings

    settings = TrainSettings(**request.learning, lora=LoraSettings(**request.lora))
    check_quantization(settings.quantize)
    task = _read(request, settings, processes)
    if dry_run:
        _preview(task, terminal)
        return
    with locked(request.out) if processes.is_main else nullcontext():
        done = _make_adapter(task, request, processes, terminal)
    if not done:
        terminal.info(f"{request.out} is finished already; nothing to do")
    terminal.result(out=str(request.out), done_before=not done)
    if request.merge and processes.is_main:
        _merge(task, request, terminal)


def _read(request: _Request, settings: "TrainSettings", processes: "Processes") -> _Task:
    """Read and check the inputs; load the tokenizer, but no weights."""
    from trec_cli.jsonl import read_examples, read_items, read_summaries
    from trec_cli.llm.load import ModelSource, load_config, load_tokenizer, max_positions
    from trec_cli.prompts.recommend import PromptBuilder, PromptSettings
    from trec_cli.training.dataset import check_trainable, questions_of

    source = processes.place(ModelSource(**request.source))
    items = read_items(request.items)
    examples = read_examples(request.examples, items)
    summaries = read_summaries(request.summaries) if request.summaries else None
    file, limit = request.summaries, request.limit
    train = questions_of(examples, summaries, "train", file=file, limit=limit)
    valid = questions_of(examples, summaries, "valid", file=file, limit=request.valid_limit)
    check_trainable(train, request.examples)
    builder = PromptBuilder(
        load_tokenizer(source),
        items,
        PromptSettings(**request.prompt),
        max_positions=max_positions(load_config(source)),
        prompts=request.prompts,
    )
    provenance = _provenance(request, source, builder, [*train, *valid])
    return _Task(source, settings, builder, train, valid, provenance)


def _provenance(
    request: _Request,
    source: "ModelSource",
    builder: "PromptBuilder",
    questions: "Sequence[Question]",
) -> "Provenance":
    """Collect everything that decides the adapter."""
    from trec_cli.llm.load import model_identity
    from trec_cli.manifest import Provenance
    from trec_cli.prompts.recommend import template_hash
    from trec_cli.training.dataset import fingerprint

    settings: dict[str, Any] = {
        "mode": request.mode,
        "limit": request.limit,
        "model": model_identity(source),
        "dtype": source.dtype,
        **asdict(builder.settings),
        "template": template_hash(builder.template),
        **request.learning,
        **{f"lora_{name}": value for name, value in request.lora.items()},
    }
    if any(map(is_stream, request.inputs)):
        settings["records"] = fingerprint(questions)
    return Provenance("train", settings, request.inputs)


def _make_adapter(
    task: _Task, request: _Request, processes: "Processes", terminal: Terminal
) -> bool:
    """Train and put the adapter into place; False where it is there already."""
    from trec_cli.llm.load import load_model
    from trec_cli.manifest import up_to_date
    from trec_cli.training.lora import quantization
    from trec_cli.training.run import finish, train
    from trec_cli.training.work import WorkFolder

    work, wanted = WorkFolder(request.out), task.provenance.settings
    if not work.is_unfinished() and up_to_date(request.out, wanted, overwrite=request.overwrite):
        return False
    if processes.is_main:
        work.open(wanted, overwrite=request.overwrite)
    prepared = task.prepare(terminal)
    extra = quantization(task.settings.quantize, task.placement.dtype)
    llm = load_model(task.source, **extra)
    terminal.info(f"training on {llm.placement.reason}")
    model, outcome = train(
        llm,
        prepared,
        work,
        save_every=request.save_every,
        report_to=request.report_to,
        progress=terminal,
    )
    if processes.is_main:
        card = _card(task, request, prepared, outcome)
        details = {**prepared.facts(), **outcome.details(), "device": llm.placement.reason}
        finish(work, model, task.builder, card, task.provenance, details)
        _tell(request, outcome, terminal)
    return True


def _card(task: _Task, request: _Request, prepared: "Prepared", outcome: "Outcome") -> "Card":
    from trec_cli.training.card import Card

    settings = task.provenance.settings
    hidden = {"model", "inputs", "mode", "records"}
    return Card(
        base_model=task.source.name,
        revision=settings["model"]["revision"],
        mode=request.mode,
        data=prepared.facts(),
        settings={name: value for name, value in settings.items() if name not in hidden},
        best=outcome.best,
        steps=outcome.steps,
        inputs={Path(name).name: value for name, value in task.provenance.inputs.items()},
    )


def _tell(request: _Request, outcome: "Outcome", terminal: Terminal) -> None:
    best = outcome.best
    if best is None:
        terminal.warn("no validation: the adapter kept is that of the last step")
    else:
        shown = ", ".join(f"{name} {best[name]:.3f}" for name in ("loss", "recall@3", "mrr@10"))
        terminal.info(f"kept the adapter of step {best['step']:.0f}: validation {shown}")
    terminal.info(f"wrote {request.out}; next: trec score")
    terminal.result(**outcome.details())


def _merge(task: _Task, request: _Request, terminal: Terminal) -> None:
    from trec_cli.training.merge import merge_adapter, merged_folder

    folder = merged_folder(request.out)
    if merge_adapter(task.source, request.out, overwrite=request.overwrite):
        terminal.info(f"wrote {folder}: full weights, for --model or any server")
    else:
        terminal.info(f"{folder} is finished already; nothing to do")
    terminal.result(merged=str(folder))


def _preview(task: _Task, terminal: Terminal) -> None:
    """Show one example's prompts with their labels, tokens per part, and what a run costs."""
    from trec_cli.prompts.recommend import PromptPart
    from trec_cli.training.dataset import Draw

    prepared = task.prepare(terminal)
    tree, answers = prepared.data[Draw(0, 0)], task.builder.answers
    label = PromptPart("label", answers.yes_text if tree.labels[0] else answers.no_text, 1)
    show_prompt([*task.builder.describe(tree.tree), label], terminal)
    facts = {**prepared.facts(), "optimizer steps": prepared.plan.steps}
    facts["validation every so many steps"] = prepared.eval_every
    for name, value in facts.items():
        terminal.info(f"{name}: {value}")
    terminal.info("dry run: nothing was written")
    terminal.result(dry_run=True, **facts)
