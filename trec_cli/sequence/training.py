"""Training of the sequence model: a softmax over the whole catalogue after every item."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from trec_cli.core.seeds import derive_seed, generator
from trec_cli.sequence.model import PADDING, SequenceModel
from trec_cli.sequence.settings import SequenceSettings

Rows = Sequence[int]
"""A history as row numbers of items, oldest first."""

_WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""


def train(
    texts: Tensor,
    histories: Sequence[Rows],
    settings: SequenceSettings,
    seed: int,
    *,
    known: int = 0,
    after_epoch: Callable[[int, float, SequenceModel], None] | None = None,
) -> SequenceModel:
    """Train a model on histories; each item but the first of each is a target.

    Args:
        texts: vectors of all items, [items, size].
        histories: of users, in an order that depends on nothing but them.
        settings: sizes and training.
        seed: of the weights, the order and what is left out.
        known: items with a learnt vector, with ``ids``; the first rows of ``texts``.
        after_epoch: gets the number of an epoch, its mean loss and the model.
    """
    torch.manual_seed(derive_seed(seed, "sequence") % 2**63)
    model = SequenceModel(texts.shape[1], known, settings).to(texts.device)
    usable = [rows[-settings.max_history - 1 :] for rows in histories if len(rows) > 1]
    steps = settings.epochs * math.ceil(len(usable) / settings.batch)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    model.train()
    for epoch in range(settings.epochs):
        losses = []
        for batch in batches(usable, settings.batch, seed, epoch):
            loss = batch_loss(model, texts, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        if after_epoch:
            after_epoch(epoch, float(torch.stack(losses).mean()), model)
    return model.eval()


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
    users = model.users(vectors, leave_out(shown, model.settings.item_dropout))
    return functional.cross_entropy(model.logits(users[asked], vectors, bias), targets[asked])


def leave_out(histories: Tensor, share: float) -> Tensor:
    """Hide a random share of the items from attention; their places stay."""
    hidden = torch.rand(histories.shape, device=histories.device) < share
    return histories.masked_fill(hidden, PADDING)


@torch.inference_mode()
def score_all(
    model: SequenceModel, texts: Tensor, histories: Sequence[Rows], block: int = 512
) -> Iterator[np.ndarray]:
    """Yield blocks of log-probabilities of all items: float32, [histories, items]."""
    vectors, bias = model.items(texts)
    for start in range(0, len(histories), block):
        cut = [rows[-model.settings.max_history :] for rows in histories[start : start + block]]
        users = model.users(vectors, padded(cut, texts.device))[:, -1]
        yield model.logits(users, vectors, bias).log_softmax(dim=-1).cpu().numpy()
