"""Sequence models as one more signal of the blend."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.training import padded
from trec_cli.signals.histories import Histories, Rows
from trec_cli.signals.kinds import Values

_BLOCK = 512
"""Histories that are read at once."""


@dataclass(frozen=True)
class Ranker:
    """A trained model with the vectors of all items.

    Attributes:
        model: reads histories.
        vectors, bias: of all items: [items, width], [items].
    """

    model: SequenceModel
    vectors: Tensor
    bias: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, model: SequenceModel, texts: Tensor) -> "Ranker":
        """Compute the items' vectors of whitened text vectors."""
        return cls(model.eval(), *model.items(texts))

    @torch.inference_mode()
    def users(self, asked: Histories) -> Values:
        """Return a user vector of each history, divided by the temperature; 0 without history."""
        width = self.vectors.shape[1]
        found = np.zeros((len(asked), width), np.float32)
        filled = np.flatnonzero(asked.lengths)
        filled = filled[np.argsort(asked.lengths[filled], kind="stable")]  # alike in length
        for start in range(0, len(filled), _BLOCK):
            block = filled[start : start + _BLOCK]
            rows = [_newest(asked, n, self.model.settings.max_history) for n in block.tolist()]
            last = self.model.users(self.vectors, padded(rows, self.vectors.device))[:, -1]
            scaled = functional.normalize(last, dim=-1) / self.model.settings.temperature
            found[block] = scaled.cpu().numpy()
        return found

    @property
    def items(self) -> tuple[Values, Values]:
        """The items' directions and biases: [items, width], [items]."""
        directions = functional.normalize(self.vectors, dim=-1)
        return directions.cpu().numpy(), self.bias.cpu().numpy()


def _newest(asked: Histories, question: int, count: int) -> list[int]:
    end = int(asked.ends[question + 1])
    rows: list[int] = asked.items[max(int(asked.ends[question]), end - count) : end].tolist()
    return rows


@dataclass(frozen=True)
class SequenceSignal:
    """The mean logit of several models; 0 for all items where the history is empty.

    Logits are not normalised over the catalogue: what is equal for all items of a question
    changes no ranking.

    Attributes:
        rankers: one per seed; at least one.
    """

    rankers: Sequence[Ranker]

    def at(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        """See :class:`~trec_cli.signals.kinds.Signal`."""
        starts = np.flatnonzero(np.diff(questions, prepend=-1)).tolist()

        def score(users: Values, items: Values, bias: Values) -> Values:
            values = np.empty(len(candidates), np.float32)
            for start, stop in zip(starts, [*starts[1:], len(candidates)], strict=True):
                rows = candidates[start:stop]
                values[start:stop] = items[rows] @ users[questions[start]] + bias[rows]
            return values

        found = self._mean(asked, score) if len(candidates) else np.zeros(0, np.float32)
        return np.where(asked.lengths[questions] > 0, found, np.float32(0))

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`~trec_cli.signals.kinds.Signal`."""
        found = self._mean(asked, lambda users, items, bias: users @ items.T + bias)
        found[asked.lengths == 0] = 0
        return found

    def _mean(self, asked: Histories, score: Callable[[Values, Values, Values], Values]) -> Values:
        total = score(self.rankers[0].users(asked), *self.rankers[0].items)
        for ranker in self.rankers[1:]:
            total += score(ranker.users(asked), *ranker.items)
        return total / np.float32(len(self.rankers))
