# ruff: noqa: ARG002 - the signatures are those of the Trainer's methods
"""The transformers Trainer on packed prompt trees.

A batch is one packed row.  The loss is the weighted sum of the row's losses over
the sum of weights of the whole optimizer step, over all its rows and all processes; so it
does not matter how a step's users are spread over rows, accumulation and GPUs.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from trec_cli.models.packing import PackedTrees, pack, to_device
from trec_cli.train.callbacks import VALID_PREFIX, MarkComplete
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.loss import LabelledTree, Objective, Targets, make_targets, summed_loss
from trec_cli.train.plan import StepPlan
from trec_cli.train.work import Spent


@dataclass(frozen=True)
class PackedRow:
    """Some users' trees for one forward pass; T predictions.

    Attributes:
        trees: the prompts and their labels.
        packed: the same as one row.
        targets: what the row should predict.
    """

    trees: Sequence[LabelledTree]
    packed: PackedTrees
    targets: Targets


RowLoss = Callable[[Any, Any, PackedRow], Tensor]
Batch = dict[str, PackedRow]
"""What the Trainer passes around: it wants a dictionary."""


def collate(trees: list[LabelledTree], *, objective: Objective) -> Batch:
    """Pack the trees of a few users into one row."""
    return {"row": PackedRow(trees, pack(trees), make_targets(trees, objective))}


def packed_loss(model: Any, base: Any, row: PackedRow, *, objective: Objective) -> Tensor:
    """Compute the summed loss of a row in one forward pass.

    Args:
        model: what is called, perhaps wrapped for several processes.
        base: the same model without wrapping; knows device, dtype and windows.
        row: the trees.
        objective: what is minimised.
    """
    positions = to_device(row.targets.positions, base.device)
    logits = model(**row.packed.inputs(base), logits_to_keep=positions).logits
    return summed_loss(logits[0], row.targets, objective)


def separate_loss(model: Any, base: Any, row: PackedRow, *, objective: Objective) -> Tensor:
    """Compute the summed loss of a row prompt by prompt, as everybody would write it.

    The reference for :func:`packed_loss`, and the way for models that cannot share a prefix.
    """
    prompts = [prompt for tree in row.trees for prompt in tree.separate()]
    logits = (_logits(model, base, prompt) for prompt in prompts)
    if objective.loss in ("answer", "listwise"):
        return summed_loss(torch.stack([each[-1] for each in logits]), row.targets, objective)
    if objective.loss == "text_listwise":
        texts = [_of_text(each, prompt) for each, prompt in zip(logits, prompts, strict=True)]
        return summed_loss(torch.cat(texts), row.targets, objective)
    total = torch.zeros((), device=base.device)
    for prompt, each in zip(prompts, logits, strict=True):
        targets = make_targets([prompt], objective)
        total = total + summed_loss(each[targets.positions], targets, objective)
    return total


def _of_text(logits: Tensor, prompt: LabelledTree) -> Tensor:
    """Take the logits that predict the text of a prompt's only branch."""
    text = len(prompt.branches[0]) - prompt.tree.lead
    return logits[-text - 1 : -1]


def _logits(model: Any, base: Any, prompt: LabelledTree) -> Tensor:
    ids = torch.tensor([[*prompt.prefix, *prompt.branches[0]]], device=base.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits


def _computed(row: PackedRow, *, packed: bool) -> Spent:
    """Count a row, computed ``packed`` or prompt by prompt."""
    separate = sum(tree.tree.separate_size for tree in row.trees)
    return Spent(
        prompts=sum(len(tree.labels) for tree in row.trees),
        targets=sum(tree.targets for tree in row.trees),
        tokens=row.packed.input_ids.numel() if packed else separate,
        separate_tokens=separate,
    )


class PackedTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with rows of packed trees, our loss and our validation."""

    loss_is_scaled_for_ga = True  # compute_loss divides by the whole step's weights

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        data: TrainingExamples,
        plan: StepPlan,
        objective: Objective,
        packed: bool,
        validate: Callable[[Any], dict[str, float]] | None,
        callbacks: list[TrainerCallback],
        earlier: Spent,
    ) -> None:
        """Take the model and what to train it on.

        Args:
            model: with its adapter.
            args: of the Trainer.
            data: the training examples.
            plan: which of them make which row.
            objective: what is minimised.
            packed: False computes one prompt at a time.
            validate: gives metrics of the model; None for no validation.
            callbacks: beside the Trainer's own.
            earlier: what the checkpoint had taken from which training goes on.
        """
        super().__init__(
            model=model,
            args=args,
            train_dataset=data,
            eval_dataset=data if validate else None,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(MarkComplete(self.spent))
        self._earlier, self._computed = earlier, Spent()
        self._started, self._validating = time.perf_counter(), 0.0
        self._plan, self._validate = plan, validate
        self._collate = partial(collate, objective=objective)
        self._packed = packed
        way = packed_loss if packed else separate_loss
        self._row_loss: RowLoss = partial(way, objective=objective)

    def get_train_dataloader(self) -> DataLoader[LabelledTree]:
        """Return the rows of this process, in the order of the plan."""
        loader = DataLoader(self.train_dataset, batch_sampler=self._plan, collate_fn=self._collate)
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | None]:
        """Return the rows of an optimizer step and the sum of their weights, all processes'."""
        batches = list(islice(epoch_iterator, num_batches))
        total = sum(batch["row"].targets.total for batch in batches)
        everywhere = self.accelerator.reduce(torch.tensor(total, device=device), "sum")
        return batches, everywhere

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        """Compute the row's share of the step's mean loss.

        Several processes average their gradients, so each share counts as often as there
        are processes.
        """
        row = inputs["row"]
        self._computed += _computed(row, packed=self._packed)
        summed = self._row_loss(model, self.accelerator.unwrap_model(model), row)
        share: Tensor = summed * self.accelerator.num_processes / num_items_in_batch
        return share

    def evaluate(
        self,
        eval_dataset: object = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Validate, log the metrics and tell the callbacks."""
        assert self._validate is not None
        started = time.perf_counter()
        found = self._validate(self.model)
        self._validating += time.perf_counter() - started
        metrics = {f"{VALID_PREFIX}{name}": value for name, value in found.items()}
        self.log(dict(metrics))
        handler: Any = self.callback_handler
        self.control: Any = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def spent(self) -> Spent:
        """Sum up what all processes have taken, in this run and before."""
        here = self._computed
        own = [here.prompts, here.targets, here.tokens, here.separate_tokens]
        summed = self.accelerator.reduce(torch.tensor(own, device=self.args.device), "sum")
        seconds = time.perf_counter() - self._started - self._validating
        prompts, targets, tokens, separate = map(int, summed.tolist())
        spent = Spent(prompts, targets, tokens, separate, seconds, self._validating)
        return self._earlier + spent

    def floating_point_ops(self, inputs: Batch) -> int:
        """Count nothing: the Trainer's estimate knows no shared prefixes."""
        return 0
