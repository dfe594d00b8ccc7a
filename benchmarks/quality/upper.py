"""Upper layers of a sentence encoder trained with the sequence model, on a processor.

The lower layers stay as they are, so their states are computed once.  Two ways of learning
with the whole catalogue in every softmax:

- ``bank``: a step encodes the items of its batch with gradients; all others keep the vector
  they last had (a memory bank).
- ``all``: the sequence model takes several steps on the same vectors, the gradients of all
  vectors add up, and one pass over the catalogue hands them to the encoder (GradCache, Gao et
  al. 2021, over several batches). No vector is older than another.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.training import Rows, batch_loss, batches, rate, train
from trec_cli.sequence.whitening import whitening


@dataclass(frozen=True)
class Tuning:
    """How the upper layers are trained.

    Attributes:
        upper: layers that learn.
        epochs: of encoder and sequence model together.
        batch: histories a step.
        encoder_rate, head_rate: peak learning rates.
        gradients: ``bank`` or ``all``.
        group: steps of the sequence model for one of the encoder, with ``all``.
    """

    upper: int = 2
    epochs: int = 4
    batch: int = 128
    encoder_rate: float = 5e-5
    head_rate: float = 5e-4
    gradients: str = "bank"
    group: int = 5


class UpperEncoder(nn.Module):
    """Cached states of the lower layers, and upper layers that learn."""

    def __init__(self, model: Any, rows: Sequence[Tensor], upper: int) -> None:
        """Compute the states of all items below the ``upper`` last layers of a BERT."""
        super().__init__()
        layers = model.encoder.layer
        self.layers = copy.deepcopy(layers[len(layers) - upper :])
        lower = copy.copy(model)
        lower.encoder.layer = layers[: len(layers) - upper]
        self.order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        self.states = _states(lower, rows, self.order)
        self.mean, self.axes = torch.zeros(1), torch.eye(self.states[0].shape[1])
        mean, axes = whitening(self.everything().double().numpy())
        self.mean, self.axes = torch.from_numpy(mean).float(), torch.from_numpy(axes).float()

    def encode(self, items: Sequence[int]) -> Tensor:
        """Encode items: whitened vectors [items, size]."""
        states = [self.states[item] for item in items]
        hidden = nn.utils.rnn.pad_sequence(states, batch_first=True).float()
        lengths = torch.tensor([len(state) for state in states])
        there = torch.arange(hidden.shape[1]) < lengths[:, None]
        mask = torch.zeros(there.shape).masked_fill(~there, float("-inf"))[:, None, None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for layer in self.layers:
                hidden = layer(hidden, mask)
        pooled = (hidden.float() * there[..., None]).sum(dim=1) / lengths[:, None]
        return (nn.functional.normalize(pooled, dim=-1) - self.mean) @ self.axes

    @torch.no_grad()
    def everything(self, block: int = 256) -> Tensor:
        """Encode the catalogue without gradients."""
        out = torch.zeros(len(self.states), self.states[0].shape[1])
        for start in range(0, len(self.order), block):
            items = self.order[start : start + block]
            out[items] = self.encode(items)
        return out


@torch.no_grad()
def _states(
    model: Any, rows: Sequence[Tensor], order: Sequence[int], block: int = 128
) -> list[Tensor]:
    """Return the last hidden states of every row, [tokens, size], bfloat16."""
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), block):
        items = order[start : start + block]
        ids = nn.utils.rnn.pad_sequence([rows[item] for item in items], batch_first=True)
        lengths = torch.tensor([len(rows[item]) for item in items])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        for item, states, length in zip(items, hidden, lengths, strict=True):
            found[item] = states[:length].to(torch.bfloat16).clone()
    return [found[item] for item in range(len(rows))]


def tune(
    encoder: UpperEncoder,
    histories: Sequence[Rows],
    settings: SequenceSettings,
    tuning: Tuning,
    seed: int,
    after_epoch: Any = None,
) -> tuple[SequenceModel, Tensor]:
    """Train the sequence model alone, then both; returns it and the final text vectors."""
    bank = encoder.everything()
    head = train(bank, histories, settings, seed)
    usable = [rows[-settings.max_history - 1 :] for rows in histories if len(rows) > 1]
    work = Work(encoder, head, tuning, -(-len(usable) // tuning.batch))
    learn = {"bank": work.from_bank, "all": work.from_all}[tuning.gradients]
    for epoch in range(tuning.epochs):
        head.train()
        start = time.process_time()
        bank, losses = learn(bank, list(batches(usable, tuning.batch, seed, 1000 + epoch)))
        head.eval()
        bank = encoder.everything()
        spent = time.process_time() - start
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, {spent:.0f} s", flush=True)
        if after_epoch:
            after_epoch(epoch, head, bank)
    return head, bank


class Work:
    """Encoder and sequence model with their optimizers."""

    def __init__(
        self, encoder: UpperEncoder, head: SequenceModel, tuning: Tuning, batches_: int
    ) -> None:
        """Take the models; ``batches_`` are in an epoch."""
        self.encoder, self.head, self.tuning = encoder, head, tuning
        self.layers = list(encoder.layers.parameters())
        self.own = list(head.parameters())
        steps = tuning.epochs * batches_
        often = tuning.group if tuning.gradients == "all" else 1
        passes = tuning.epochs * -(-batches_ // often)
        self.upper = _Optimizer(self.layers, tuning.encoder_rate, passes)
        self.lower = _Optimizer(self.own, tuning.head_rate, steps)

    def from_bank(
        self, bank: Tensor, every: Sequence[Sequence[Rows]]
    ) -> tuple[Tensor, list[float]]:
        """Learn an epoch from fresh vectors of each batch's items."""
        losses = []
        for batch in every:
            items = sorted(
                {row for rows in batch for row in rows}, key=lambda i: len(self.encoder.states[i])
            )
            fresh, index = self.encoder.encode(items), torch.tensor(items)
            loss = batch_loss(self.head, bank.index_copy(0, index, fresh), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            self.upper.step()
            self.lower.step()
            bank = bank.index_copy(0, index, fresh.detach())
            losses.append(float(loss.detach()))
        return bank, losses

    def from_all(self, bank: Tensor, every: Sequence[Sequence[Rows]]) -> tuple[Tensor, list[float]]:
        """Learn an epoch from gradients of all vectors, summed over groups of batches."""
        losses = []
        for start in range(0, len(every), self.tuning.group):
            leaf = (self.encoder.everything() if start else bank).requires_grad_()
            group = every[start : start + self.tuning.group]
            for batch in group:
                loss = batch_loss(self.head, leaf, batch)
                loss.backward()  # type: ignore[no-untyped-call]
                self.lower.step()
                losses.append(float(loss.detach()))
            if leaf.grad is None:
                raise AssertionError("the loss does not reach the texts")
            self._hand_down(leaf.grad / len(group))
            self.upper.step()
        return bank, losses

    def _hand_down(self, gradient: Tensor, block: int = 256) -> None:
        """Add to the encoder's gradients what its vectors' gradient asks for."""
        order = self.encoder.order
        for start in range(0, len(order), block):
            items = order[start : start + block]
            (self.encoder.encode(items) * gradient[items]).sum().backward()  # type: ignore[no-untyped-call]


class _Optimizer:
    """AdamW with the schedule of the sequence model and cut gradients."""

    def __init__(self, parameters: list[nn.Parameter], peak: float, steps: int) -> None:
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: rate(step, steps)
        )

    def step(self) -> None:
        """Step, and forget the gradients."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
