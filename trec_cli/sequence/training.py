"""Training of the sequence model: a softmax over the whole catalogue after every item."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from trec_cli.core.outputs import atomic
from trec_cli.core.seeds import derive_seed, generator
from trec_cli.sequence.model import PADDING, SequenceModel
from trec_cli.sequence.settings import SequenceSettings

Rows = Sequence[int]
"""A history as row numbers of items, oldest first."""
AfterEpoch = Callable[[int, float, SequenceModel], None]
"""Gets the number of an epoch, its mean loss and the model."""

_WARM_UP = 0.1
_LARGEST_GRADIENT = 1.0


class Checkpoint:
    """A training run on disk after every epoch, so that a killed one continues.

    What is found there is taken only if it was made of the same ``key``.
    """

    def __init__(self, path: Path, key: str) -> None:
        """Keep the state in ``path``; ``key`` stands for data, settings and seed."""
        self._path, self._key = path, key

    def load(self, **parts: Any) -> int:
        """Restore the parts; returns the number of epochs that are done."""
        if not self._path.is_file():
            return 0
        try:
            state = torch.load(self._path, weights_only=True)
        except Exception:  # torch has no error of its own for a damaged file: begin again
            return 0
        if not isinstance(state, dict) or state.get("key") != self._key:
            return 0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        epochs: int = state["epochs"]
        return epochs

    def save(self, epochs: int, **parts: Any) -> None:
        """Write the parts, whole or not at all."""
        states = {name: part.state_dict() for name, part in parts.items()}
        with atomic(self._path) as place:
            torch.save({"key": self._key, "epochs": epochs, **states}, place)

    def remove(self) -> None:
        """Remove the file; the model is kept elsewhere."""
        self._path.unlink(missing_ok=True)


def train(
    texts: Tensor,
    histories: Sequence[Rows],
    settings: SequenceSettings,
    seed: int,
    *,
    checkpoint: Checkpoint | None = None,
    after_epoch: AfterEpoch | None = None,
) -> SequenceModel:
    """Train a model on histories; each item of a history but its first is a target.

    Args:
        texts: vectors of all items, [items, size].
        histories: of users, in an order that depends on nothing but them.
        settings: sizes and training.
        seed: of the order and of what is left out.
        checkpoint: where the state is kept after every epoch.
        after_epoch: is called after every epoch.
    """
    usable = [rows[-settings.max_history - 1 :] for rows in histories if len(rows) > 1]
    torch.manual_seed(derive_seed(seed, "weights") % 2**63)
    model = SequenceModel(texts.shape[1], len(texts), settings).to(texts.device)
    steps = settings.epochs * math.ceil(len(usable) / settings.batch)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done = checkpoint.load(**parts) if checkpoint else 0
    for epoch in range(done, settings.epochs):
        model.train()
        torch.manual_seed(derive_seed(seed, "dropout", epoch) % 2**63)
        losses = []
        for batch in batches(usable, settings.batch, seed, epoch):
            losses.append(_step(model, texts, batch, optimizer))
            schedule.step()
        if checkpoint:
            checkpoint.save(epoch + 1, **parts)
        if after_epoch:
            after_epoch(epoch, float(np.mean(losses)), model)
    return model.eval()


def _step(
    model: SequenceModel, texts: Tensor, batch: Sequence[Rows], optimizer: torch.optim.Optimizer
) -> float:
    loss = batch_loss(model, texts, batch)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
    optimizer.step()
    return float(loss.detach())


def rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: a linear rise, then a cosine to 0."""
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def batches(histories: Sequence[Rows], size: int, seed: int, epoch: int) -> Iterator[list[Rows]]:
    """Yield batches in an order drawn from (seed, epoch)."""
    order = generator(seed, "order", epoch).permutation(len(histories))
    for start in range(0, len(order), size):
        yield [histories[index] for index in order[start : start + size]]


def padded(histories: Sequence[Rows], device: torch.device) -> Tensor:
    """Write histories as one tensor [users, length], padded in front."""
    rows = [torch.tensor(rows, dtype=torch.long) for rows in histories]
    tensor = pad_sequence(rows, batch_first=True, padding_value=PADDING, padding_side="left")
    return tensor.to(device)


def batch_loss(model: SequenceModel, texts: Tensor, histories: Sequence[Rows]) -> Tensor:
    """Return the mean cross-entropy of the next items of a batch."""
    whole = padded(histories, texts.device)
    shown, targets = whole[:, :-1], whole[:, 1:]
    asked = (shown != PADDING) & (targets != PADDING)
    vectors, bias = model.items(texts)
    left_out = torch.rand(shown.shape, device=shown.device) < model.settings.item_dropout
    users = model.users(vectors, shown, left_out)
    return functional.cross_entropy(model.logits(users[asked], vectors, bias), targets[asked])


@torch.inference_mode()
def score_all(
    model: SequenceModel, texts: Tensor, histories: Sequence[Rows], block: int = 512
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of log-probabilities of all items, [histories, items].

    An empty history has the same score for all items.
    """
    vectors, bias = model.items(texts)
    for start in range(0, len(histories), block):
        cut = [rows[-model.settings.max_history :] for rows in histories[start : start + block]]
        empty = torch.tensor([not rows for rows in cut], device=texts.device)
        users = model.users(vectors, padded([rows or [PADDING] for rows in cut], texts.device))
        logits = model.logits(users[:, -1], vectors, bias).masked_fill(empty[:, None], 0.0)
        yield logits.log_softmax(dim=-1).cpu().numpy()
