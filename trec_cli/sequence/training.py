"""Training of the sequence model: a softmax over the catalogue after every item.

Of a large catalogue over a sample (:class:`Sample`), so that a step's time and memory do not
grow with it; of many histories in fewer passes, so that a training's time does not grow either.
"""

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

_MOST_SCORES = 1 << 25
"""Scores held at once."""
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
    usable, epochs = within_budget(histories, settings, seed)
    torch.manual_seed(derive_seed(seed, "weights") % 2**63)
    model = SequenceModel(texts.shape[1], len(texts), settings).to(texts.device)
    size = step_size(usable, settings)
    steps = epochs * math.ceil(len(usable) / size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    sample = Sample(usable, len(texts), settings) if settings.draws(len(texts)) else None
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done = checkpoint.load(**parts) if checkpoint else 0
    for epoch in range(done, epochs):
        model.train()
        torch.manual_seed(derive_seed(seed, "dropout", epoch) % 2**63)
        losses = []
        for batch in batches(usable, size, seed, epoch):
            losses.append(_step(model, texts, batch, optimizer, sample))
            schedule.step()
        if checkpoint:
            checkpoint.save(epoch + 1, **parts)
        if after_epoch:
            after_epoch(epoch, float(np.mean(losses)) if losses else math.nan, model)
    return model.eval()


def within_budget(
    histories: Sequence[Rows], settings: SequenceSettings, seed: int
) -> tuple[list[Rows], int]:
    """Return what is learnt from, newest items alone, and in how many passes.

    Where one pass has too many targets, histories are drawn, other ones for another seed.
    """
    usable = [rows[-settings.max_history - 1 :] for rows in histories if len(rows) > 1]
    targets = np.array([len(rows) - 1 for rows in usable], np.int64)
    most, total = settings.most_targets, int(targets.sum())
    if total <= most:
        return usable, min(settings.epochs, most // max(1, total))
    order = generator(seed, "histories").permutation(len(usable))
    drawn = order[: max(1, int(np.searchsorted(targets[order].cumsum(), most, side="right")))]
    return [usable[index] for index in sorted(drawn.tolist())], 1


def _step(
    model: SequenceModel,
    texts: Tensor,
    batch: Sequence[Rows],
    optimizer: torch.optim.Optimizer,
    sample: "Sample | None",
) -> float:
    loss = sample.loss(model, texts, batch) if sample else batch_loss(model, texts, batch)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
    optimizer.step()
    return float(loss.detach())


def step_size(histories: Sequence[Rows], settings: SequenceSettings) -> int:
    """Return how many histories have about as many targets as a step should have."""
    targets = sum(len(rows) - 1 for rows in histories)
    return max(1, round(settings.step_targets * len(histories) / max(1, targets)))


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
    """Return the mean cross-entropy of the next items of a batch, over the whole catalogue."""
    shown, targets = _questions(histories, texts.device)
    asked = targets != PADDING
    vectors, bias = model.items(texts)
    users = model.users(vectors, shown, _left_out(shown, model.settings))
    return functional.cross_entropy(model.logits(users[asked], vectors, bias), targets[asked])


def _questions(histories: Sequence[Rows], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return items and the item after each, both [users, length]; PADDING where none is asked."""
    whole = padded(histories, device)
    shown, targets = whole[:, :-1], whole[:, 1:]
    return shown, targets.masked_fill(shown == PADDING, PADDING)


def _left_out(shown: Tensor, settings: SequenceSettings) -> Tensor:
    return torch.rand(shown.shape, device=shown.device) < settings.item_dropout


class Sample:
    """The items over which the softmax of a step runs, where all would be too many.

    They are the targets of the batch, each wrong for the others, and items drawn uniformly.
    An item counts the more the smaller its chance to be among them is, as in the estimator of
    Horvitz and Thompson (1952), so that their sum estimates that over the whole catalogue; a
    question's own target is there for certain.
    """

    def __init__(self, histories: Sequence[Rows], items: int, settings: SequenceSettings) -> None:
        """Count how often each of the ``items`` is a target in the ``histories``."""
        taken = np.bincount([row for rows in histories for row in rows[1:]], minlength=items)
        with np.errstate(divide="ignore"):  # of the one item that is all targets
            absent = np.log1p(-taken / taken.sum())
        self._absent = torch.from_numpy(absent)
        self._items, self._count = items, settings.negatives

    def draw(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items for the targets of a batch, ascending, and their log chances."""
        drawn = torch.randint(self._items, (self._count,), device=targets.device)
        rows = _distinct(drawn, targets)
        never_drawn = self._count * math.log1p(-1 / self._items)
        missed = never_drawn + len(targets) * self._absent.to(rows.device)[rows]
        return rows, torch.log(-torch.expm1(missed)).float()

    def loss(self, model: SequenceModel, texts: Tensor, histories: Sequence[Rows]) -> Tensor:
        """Return the mean cross-entropy of the next items of a batch, over a sample."""
        shown, targets = _questions(histories, texts.device)
        asked = targets != PADDING
        rows, chances = self.draw(targets[asked])
        needed = _distinct(rows, shown[shown != PADDING])
        vectors, bias = model.items(texts, needed)
        seen = torch.searchsorted(needed, shown.contiguous()).masked_fill(shown == PADDING, PADDING)
        users = model.users(vectors, seen, _left_out(shown, model.settings))[asked]
        places = torch.searchsorted(needed, rows)
        logits = model.logits(users, vectors[places], bias[places] - chances)
        own = torch.searchsorted(rows, targets[asked])
        certain = torch.arange(len(own), device=own.device), own
        logits.index_put_(certain, chances[own], accumulate=True)
        return functional.cross_entropy(logits, own)


def _distinct(*rows: Tensor) -> Tensor:
    """Return all rows once, ascending."""
    found: Tensor = torch.unique(torch.cat(rows))
    return found


@torch.inference_mode()
def score_all(
    model: SequenceModel, texts: Tensor, histories: Sequence[Rows], block: int = 512
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of log-probabilities of all items, [histories, items].

    An empty history has the same score for all items.
    """
    vectors, bias = model.items(texts)
    block = max(1, min(block, _MOST_SCORES // len(texts)))
    for start in range(0, len(histories), block):
        cut = [rows[-model.settings.max_history :] for rows in histories[start : start + block]]
        empty = torch.tensor([not rows for rows in cut], device=texts.device)
        users = model.users(vectors, padded([rows or [PADDING] for rows in cut], texts.device))
        logits = model.logits(users[:, -1], vectors, bias).masked_fill(empty[:, None], 0.0)
        yield logits.log_softmax(dim=-1).cpu().numpy()
