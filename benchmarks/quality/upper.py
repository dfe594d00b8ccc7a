"""Upper layers of an encoder of items trained with the sequence model, on a processor.

The encoder is MiniLM, or SmolLM2 up to a third of its layers (where its frozen vectors are made,
too).  The lower layers stay as they are, so their states are computed once.  Two ways of learning
with the whole catalogue in every softmax:

- ``bank``: a step encodes the items of its batch with gradients; all others keep the vector
  they last had (a memory bank).
- ``all``: the sequence model takes several steps on the same vectors, the gradients of all
  vectors add up, and one pass over the catalogue hands them to the encoder (GradCache, Gao et
  al. 2021, over several batches). No vector is older than another.
"""

import copy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.quality.encoder import Encoder
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

    def __init__(self, encoder: Encoder, upper: int) -> None:
        """Compute the states of all items below the ``upper`` last layers that are used."""
        super().__init__()
        model: Any = encoder.model
        self.causal, self.skipped = hasattr(model, "layers"), encoder.skipped
        every = list(model.layers[: len(model.layers) // 3] if self.causal else model.encoder.layer)
        self.layers = nn.ModuleList(copy.deepcopy(every[len(every) - upper :]))
        self.angles = model.rotary_emb if self.causal else None
        self.order = encoder.order
        start = model.embed_tokens if self.causal else model.embeddings
        self.states = self._lower(start, every[: len(every) - upper], encoder.rows)
        size = self.states[0].shape[1]
        self.mean, self.axes = torch.zeros(1), torch.eye(size)
        mean, axes = whitening(self.everything().double().numpy())
        self.mean, self.axes = torch.from_numpy(mean).float(), torch.from_numpy(axes).float()

    @torch.no_grad()
    def _lower(self, start: Any, layers: Sequence[Any], rows: Sequence[Tensor]) -> list[Tensor]:
        """Return the states of every row below the layers that learn, [tokens, size], bfloat16."""
        found: dict[int, Tensor] = {}
        for block in _blocks(self.order, 128):
            ids = nn.utils.rnn.pad_sequence([rows[item] for item in block], batch_first=True)
            there = _there([len(rows[item]) for item in block])
            hidden = self._through(layers, start(ids), there)
            for item, states in zip(block, hidden, strict=True):
                found[item] = states[: len(rows[item])].to(torch.bfloat16).clone()
        return [found[item] for item in range(len(rows))]

    def _through(self, layers: Iterable[Any], hidden: Tensor, there: Tensor) -> Tensor:
        """Send states through layers: [rows, tokens, size]."""
        count = hidden.shape[1]
        seen = there[:, None, None].expand(-1, 1, count, -1)
        more = {}
        if self.angles is not None:
            seen = seen & torch.ones(count, count, dtype=torch.bool).tril()
            places = torch.arange(count)[None]
            more = {"position_embeddings": self.angles(hidden, places), "position_ids": places}
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            for layer in layers:
                out = layer(hidden, attention_mask=mask, **more)
                hidden = out[0] if isinstance(out, tuple) else out
        return hidden

    def encode(self, items: Sequence[int]) -> Tensor:
        """Encode items: whitened vectors [items, size]."""
        states = [self.states[item] for item in items]
        hidden = nn.utils.rnn.pad_sequence(states, batch_first=True).float()
        there = _there([len(state) for state in states])
        hidden = self._through(self.layers, hidden, there)
        counted = there & (torch.arange(there.shape[1]) >= self.skipped)
        pooled = (hidden.float() * counted[..., None]).sum(dim=1)
        pooled = pooled / counted.sum(dim=1, keepdim=True).clamp(min=1)
        return (nn.functional.normalize(pooled, dim=-1) - self.mean) @ self.axes

    @torch.no_grad()
    def everything(self) -> Tensor:
        """Encode the catalogue without gradients."""
        out = torch.zeros(len(self.states), self.states[0].shape[1])
        for block in _blocks(self.order):
            out[block] = self.encode(block)
        return out


def _blocks(order: Sequence[int], size: int = 256) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield list(order[start : start + size])


def _there(lengths: Sequence[int]) -> Tensor:
    """Return which places of padded rows hold a token: [rows, tokens]."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


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

    def _hand_down(self, gradient: Tensor) -> None:
        """Add to the encoder's gradients what its vectors' gradient asks for."""
        for items in _blocks(self.encoder.order):
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
