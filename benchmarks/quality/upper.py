"""Upper layers of a sentence encoder trained with the sequence model, on a processor.

The lower layers stay as they are, so their states are computed once.  A step encodes the
items of its batch with gradients; all others keep the vector they last had (a memory bank),
so that the whole catalogue is in every softmax.
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
    """

    upper: int = 2
    epochs: int = 4
    batch: int = 128
    encoder_rate: float = 5e-5
    head_rate: float = 5e-4


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
    optimizer = torch.optim.AdamW(
        [
            {"params": encoder.layers.parameters(), "lr": tuning.encoder_rate},
            {"params": head.parameters(), "lr": tuning.head_rate},
        ],
        weight_decay=0.01,
    )
    steps = tuning.epochs * -(-len(usable) // tuning.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    for epoch in range(tuning.epochs):
        head.train()
        start, losses = time.process_time(), []
        for batch in batches(usable, tuning.batch, seed, 1000 + epoch):
            items = sorted(
                {row for rows in batch for row in rows}, key=lambda i: len(encoder.states[i])
            )
            fresh = encoder.encode(items)
            index = torch.tensor(items)
            loss = batch_loss(head, bank.index_copy(0, index, fresh), batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([*encoder.layers.parameters(), *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
            bank = bank.index_copy(0, index, fresh.detach())
            losses.append(float(loss.detach()))
        head.eval()
        bank = encoder.everything()
        spent = time.process_time() - start
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}, {spent:.0f} s", flush=True)
        if after_epoch:
            after_epoch(epoch, head, bank)
    return head, bank
