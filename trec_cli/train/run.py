"""One training from examples to the last step, resumable at every step."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments
from transformers.utils import logging as transformers_logging

from trec_cli.core.errors import ModelError, TrecError, UsageError
from trec_cli.core.progress import Progress, Silent, Task
from trec_cli.models.device import shortage_explained
from trec_cli.models.likelihood import TextScorer
from trec_cli.models.load import LanguageModel
from trec_cli.models.log_odds import BranchScorer, TreeScorer
from trec_cli.models.processes import Processes
from trec_cli.train.callbacks import (
    BestAdapter,
    EpochShare,
    LogFile,
    ShowProgress,
    StopWhenDiverged,
    ValidateAtEnd,
)
from trec_cli.train.lora import add_adapter, save_memory, torch_seed
from trec_cli.train.loss import Objective
from trec_cli.train.plan import Draw
from trec_cli.train.prepared import PreparedTraining
from trec_cli.train.settings import BETAS, MAX_GRADIENT_NORM
from trec_cli.train.trainer import PackedTrainer
from trec_cli.train.untrained import Untrained
from trec_cli.train.validation import TextValidator, Validator
from trec_cli.train.work import (
    Spent,
    WorkFolder,
    latest_complete,
    read_spent,
    remove_broken,
    step_of,
)


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        steps: optimizer steps of the whole training.
        resumed: the step that this run continued from, 0 for a fresh one.
        spent: what all processes have taken, also in the runs that this one continued.
        best: step and validation metrics of the adapter kept; None without validation.
        earlier: of what was spent, what the runs before this one had.
    """

    steps: int
    resumed: int
    spent: Spent
    best: Mapping[str, float] | None
    earlier: Spent = field(default_factory=Spent)

    @property
    def earlier_seconds(self) -> float:
        """How long the runs took that this one continued."""
        return self.earlier.seconds + self.earlier.validation_seconds

    def details(self) -> dict[str, Any]:
        """Describe how it went, for the manifest."""
        spent, seconds = self.spent, max(self.spent.seconds, 1e-9)
        saved = 1 - spent.tokens / spent.separate_tokens if spent.separate_tokens else 0.0
        return {
            "steps": self.steps,
            "resumed_from_step": self.resumed,
            "prompts": spent.prompts,
            "targets": spent.targets,
            "tokens": spent.tokens,
            "tokens_saved_by_sharing": round(saved, 4),
            "prompts_per_second": round(spent.prompts / seconds, 3),
            "targets_per_second": round(spent.targets / seconds, 3),
            "tokens_per_second": round(spent.tokens / seconds, 1),
            "training_seconds": round(spent.seconds, 3),
            "validation_seconds": round(spent.validation_seconds, 3),
            "best": self.best,
        }


def train(
    llm: LanguageModel,
    prepared: PreparedTraining,
    work: WorkFolder,
    *,
    save_every: int,
    report_to: Sequence[str] = (),
    progress: Progress | None = None,
    untrained: Untrained | None = None,
) -> tuple[Any, Outcome]:
    """Train an adapter on ``llm``, continuing from the last whole checkpoint in ``work``.

    Args:
        llm: the base model.
        prepared: what is learnt.
        work: where checkpoints lie.
        save_every: steps between them.
        report_to: trackers, as the Trainer names them.
        progress: where to say what goes on.
        untrained: what the base model says, where texts are learnt listwise.

    Returns:
        The model with the adapter of the last step, and the outcome.

    Raises:
        ModelError: the device's memory is too small, or the loss is no number any more.
        UsageError: the model has no place for an adapter.
    """
    progress = progress or Silent()
    transformers_logging.set_verbosity_error()
    model = add_adapter(llm.model, prepared.settings, llm.revision)
    if prepared.settings.gradient_checkpointing:
        save_memory(model)
    arguments = _arguments(llm, prepared, work.path, save_every, report_to)
    checkpoint = _checkpoint(work, progress)
    earlier = read_spent(checkpoint)
    scorer = _scorer(model, prepared, progress)
    with progress.task("training", prepared.plan.steps) as bar:
        trainer = _trainer(
            model, arguments, prepared, work, scorer, bar, untrained, earlier=earlier
        )
        _run(trainer, checkpoint)
    outcome = Outcome(
        steps=prepared.plan.steps,
        resumed=step_of(checkpoint) if checkpoint else 0,
        spent=trainer.spent(),
        best=work.read_best(),
        earlier=earlier,
    )
    return model, outcome


def _run(trainer: PackedTrainer, checkpoint: Path | None) -> None:
    advice = (
        "Lower --max-tokens, show shorter prompts (--max-length), or use --gradient-checkpointing."
    )
    with shortage_explained("this training", advice), _readable(trainer, checkpoint):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


@contextmanager
def _readable(trainer: PackedTrainer, checkpoint: Path | None) -> Iterator[None]:
    """Name the checkpoint where training fails before its first step.

    Raises:
        ModelError: what is in the checkpoint cannot be continued from.
    """
    try:
        yield
    except (TrecError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        if checkpoint is None or trainer.state.global_step > step_of(checkpoint):
            raise
        first = (str(error).splitlines() or [repr(error)])[0]
        raise ModelError(
            f"{checkpoint} cannot be continued from: {first}. Remove {checkpoint.parent} to "
            "begin again"
        ) from error


def _checkpoint(work: WorkFolder, progress: Progress) -> Path | None:
    """Return the checkpoint to continue from; broken ones are removed by the main process."""
    state = PartialState()
    if state.is_main_process:
        for broken in remove_broken(work.path):
            progress.warn(
                f"{broken.name} was not written to its end, or is damaged: it is not used"
            )
    state.wait_for_everyone()
    found = latest_complete(work.path)
    if found is not None:
        progress.info(f"continuing after step {step_of(found)}")
    return found


def _scorer(model: Any, prepared: PreparedTraining, progress: Progress) -> TreeScorer:
    """Check on the longest and the shortest example that sharing a prefix is exact."""
    builder, most = prepared.data.builder, prepared.settings.max_tokens
    scorer: TreeScorer = (
        TextScorer(model, most) if builder.text else BranchScorer(model, builder.answers, most)
    )
    if Processes.here().deal_out_weights:
        return scorer  # still in main memory, where a large model is too slow to check
    model.eval()
    sizes = prepared.measure.largest
    extremes = {sizes.index(min(sizes)), sizes.index(max(sizes))}
    scorer.check([prepared.data[Draw(0, index)] for index in sorted(extremes)])
    if scorer.fallback:
        progress.warn(f"{scorer.fallback}; training prompt by prompt, slowly")
    return scorer


def _trainer(
    model: Any,
    arguments: TrainingArguments,
    prepared: PreparedTraining,
    work: WorkFolder,
    scorer: TreeScorer,
    bar: Task,
    untrained: Untrained | None,
    *,
    earlier: Spent,
) -> PackedTrainer:
    settings, validator = prepared.settings, None
    callbacks = [EpochShare(settings.epochs), LogFile(work.log), StopWhenDiverged()]
    if prepared.valid:
        validator = _validator(prepared, scorer, untrained)
        callbacks += [ValidateAtEnd(), BestAdapter(work.best, settings.best_by)]
    return PackedTrainer(
        model,
        arguments,
        data=prepared.data,
        plan=prepared.plan,
        objective=_objective(prepared, untrained),
        packed=not scorer.fallback,
        validate=validator,
        callbacks=[*callbacks, ShowProgress(bar)],
        earlier=earlier,
    )


def _validator(
    prepared: PreparedTraining, scorer: TreeScorer, untrained: Untrained | None
) -> Validator:
    valid, builder = prepared.valid, prepared.data.builder
    if builder.text:
        return TextValidator(valid, builder, scorer, untrained.alone if untrained else None)
    per_positive = prepared.settings.negatives_per_positive
    return Validator(valid, builder, scorer, negatives_per_positive=per_positive)


def _objective(prepared: PreparedTraining, untrained: Untrained | None) -> Objective:
    builder, settings = prepared.data.builder, prepared.settings
    share = settings.pointwise_weight
    if untrained is not None:
        return Objective(None, "text_listwise", untrained.temperature, share, untrained.alone)
    if builder.text:
        return Objective(None, "text")
    return Objective(builder.answers, settings.loss, settings.temperature or 1.0, share)


def _arguments(
    llm: LanguageModel,
    prepared: PreparedTraining,
    folder: Path,
    save_every: int,
    report_to: Sequence[str],
) -> TrainingArguments:
    """Make the arguments of the Trainer; the whole plan is one of its epochs."""
    settings, plan = prepared.settings, prepared.plan
    on_gpu = llm.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        gradient_accumulation_steps=plan.rows_per_step,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup * plan.steps),
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        weight_decay=settings.weight_decay,
        max_grad_norm=MAX_GRADIENT_NORM,
        eval_strategy="steps" if prepared.valid else "no",
        eval_steps=prepared.eval_every,
        save_strategy="steps",
        save_steps=min(save_every, plan.steps),
        save_total_limit=2,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        log_level="error",
        report_to=list(report_to) or "none",
        disable_tqdm=True,
        seed=torch_seed(settings.seed),
        use_cpu=llm.device.type == "cpu",
        bf16=on_gpu and llm.placement.dtype is torch.bfloat16,
        fp16=on_gpu and llm.placement.dtype is torch.float16,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        accelerator_config={"even_batches": False},
        ddp_find_unused_parameters=False,
    )
    use_one_device(arguments)
    return arguments


def use_one_device(arguments: Any) -> None:
    """Keep the Trainer from DataParallel, which would split a packed row.

    Raises:
        UsageError: this version of transformers cannot be kept from it.
    """
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # transformers has no public way
    if arguments.n_gpu > 1:
        raise UsageError(
            f"one process sees {arguments.n_gpu} GPUs: choose one with CUDA_VISIBLE_DEVICES=0, "
            "or start a process for each with torchrun"
        )
