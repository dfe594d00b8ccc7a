"""``trec train``: examples and summaries become a LoRA adapter."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.inputs import resolve
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
    Vectors,
    names,
)
from trec_cli.commands.preview import show_prompt
from trec_cli.core.files import find_summaries
from trec_cli.core.jsonl import is_stream
from trec_cli.core.progress import Silent
from trec_cli.core.runs import RunFolder
from trec_cli.models.source import DEFAULT_MODEL
from trec_cli.train.processes import Processes
from trec_cli.train.request import TrainRequest
from trec_cli.train.settings import BestBy, LoraSettings, LossName, Quantization, TrainSettings

if TYPE_CHECKING:
    from trec_cli.train.job import TrainingJob
    from trec_cli.train.run import Outcome

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
    LossName, _option(_LEARN, "--loss", "Cross-entropy on the answer, or on the whole prompt.")
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
    Quantization | None,
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
BestByOption = Annotated[
    BestBy, _option(_WATCH, "--best-by", "Validation metric of the adapter kept.")
]
SaveEvery = Annotated[int, _option(_WATCH, "--save-every", "Steps between checkpoints.", min=1)]
ReportTo = Annotated[
    str,
    _option(_WATCH, "--report-to", "Trackers as the Trainer has them: tensorboard,wandb"),
]


def train(
    run: Run = None,
    mode: Mode = "hier",
    items: Items = None,
    examples: Examples = None,
    summaries: Summaries = None,
    vectors: Vectors = None,
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
    best_by: BestByOption = "mrr@10",
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
    processes = Processes.here()
    silent = not processes.is_main
    with stage(
        "train", quiet=quiet or silent, json_line=json_line and not silent, debug=debug
    ) as terminal:
        request = TrainRequest(
            mode=mode,
            items=resolve(items, run, "items"),
            examples=resolve(examples, run, "examples"),
            summaries=find_summaries(mode, summaries, run),
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
            settings=TrainSettings(
                loss=loss,
                negatives_per_positive=negatives_per_positive,
                epochs=epochs,
                users_per_step=users_per_step,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                warmup=warmup,
                max_tokens=max_tokens,
                eval_every=eval_every,
                valid_users=valid_users,
                best_by=best_by,
                gradient_checkpointing=gradient_checkpointing,
                quantize=quantize,
                seed=seed,
                processes=processes.count,
                lora=LoraSettings(lora_rank, lora_alpha, lora_dropout, names(target_modules)),
            ),
            limit=limit,
            save_every=save_every,
            report_to=tuple(name for name in names(report_to) or () if name != "none"),
            merge=merge,
            overwrite=overwrite,
            vectors=vectors,
        )
        request.check()
        _train(request, processes, terminal, dry_run)


def _train(request: TrainRequest, processes: Processes, terminal: Terminal, dry_run: bool) -> None:
    """Train, unless it is done already, and tell what came of it."""
    from trec_cli.train.job import make_job
    from trec_cli.train.lora import check_quantization
    from trec_cli.train.tracking import check_trackers

    check_quantization(request.settings.quantize)
    check_trackers(request.report_to)
    job = make_job(request, processes, terminal if processes.is_main else Silent())
    if dry_run:
        _preview(job, terminal)
        return
    outcome = job.run()
    if outcome is None:
        terminal.info(f"{request.out} is finished already; nothing to do")
    elif processes.is_main:
        _tell(request, outcome, terminal)
    terminal.result(out=str(request.out), done_before=outcome is None)
    if request.merge and processes.is_main:
        _merge(job, terminal)


def _tell(request: TrainRequest, outcome: "Outcome", terminal: Terminal) -> None:
    best = outcome.best
    if best is None:
        terminal.info("kept the adapter of the last step: there was no validation")
    else:
        shown = ", ".join(f"{name} {best[name]:.3f}" for name in ("loss", "recall@3", "mrr@10"))
        terminal.info(f"kept the adapter of step {best['step']}: validation {shown}")
    terminal.info(f"wrote {request.out}{_next(request)}")
    terminal.result(**outcome.details())


def _next(request: TrainRequest) -> str:
    """Tell how to score with the adapter: in its RUN it is found by its name."""
    if is_stream(request.examples):
        return ""
    run = RunFolder(request.examples.parent)
    named = "" if run.adapter(request.mode) == request.out else f" --adapter {request.out}"
    return f"; next: trec score {run.path} --mode {request.mode}{named}"


def _merge(job: "TrainingJob", terminal: Terminal) -> None:
    from trec_cli.train.merge import merge_adapter, merged_folder

    folder = merged_folder(job.request.out)
    if merge_adapter(job.source, job.request.out, overwrite=job.request.overwrite):
        terminal.info(f"wrote {folder}: full weights, for --model or any server")
    else:
        terminal.info(f"{folder} is finished already; nothing to do")
    terminal.result(merged=str(folder))


def _preview(job: "TrainingJob", terminal: Terminal) -> None:
    """Show a prompt with its label, tokens per part, and what a run costs."""
    show_prompt(job.describe(), terminal)
    facts = job.cost()
    for name, value in facts.items():
        terminal.info(f"{name}: {value}")
    terminal.info(f"dry run: nothing was written; would write {job.request.out}")
    terminal.result(dry_run=True, **facts)
