"""What decides the outcome of a training, with the defaults and where they come from."""

from dataclasses import dataclass
from typing import Literal

from trec_cli.core.errors import UsageError

LossName = Literal["answer", "prompt"]
Quantization = Literal["4bit", "8bit"]
BestBy = Literal["mrr@10", "recall@1", "recall@3", "recall@5", "recall@10", "loss"]

BETAS = (0.9, 0.95)
"""AdamW's decay rates in the paper's code."""

MAX_GRADIENT_NORM = 1.0
"""Longer gradients are shortened to this length, as the Trainer does by default."""


@dataclass(frozen=True)
class LoraSettings:
    """The adapter; defaults are those of the paper's code.

    Attributes:
        rank: inner dimension of the update.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: share of the adapter's inputs dropped in training.
        targets: names of the modules that get an adapter; None picks the attention
            projections of the model's family.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class TrainSettings:
    """The training; where a default is not the paper's, `docs/train.md` says why.

    Attributes:
        loss: cross-entropy of the answer token, or of every token of the prompt too.
        negatives_per_positive: negatives drawn per positive, anew in each epoch.
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

    loss: LossName = "answer"
    negatives_per_positive: int = 1
    epochs: int = 3
    users_per_step: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    warmup: float = 0.05
    max_tokens: int = 4096
    eval_every: int | None = None
    valid_users: int = 200
    best_by: BestBy = "mrr@10"
    gradient_checkpointing: bool = False
    quantize: Quantization | None = None
    seed: int = 0
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
