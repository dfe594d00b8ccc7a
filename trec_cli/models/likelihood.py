"""Log-likelihood of every branch of prompt trees, with the shared prefix computed once.

The score of a branch is the sum of ``log p(token | what is before)`` over its tokens, in nats:
how likely a causal LM finds it that this text comes next.  Query likelihood ranks documents in
the same way (Ponte and Croft 1998).  Packed, cached and plain as in
:mod:`trec_cli.models.log_odds`, with the same result.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trec_cli.models.log_odds import OverCache, TreeScorer, Ways
from trec_cli.models.packing import (
    Prediction,
    Tree,
    branch_predictions,
    pack,
    separate_prompts,
    to_device,
)

_ROWS = 256
"""Logits that are made float32 at once; a vocabulary of 150,000 then takes 150 MB."""
_LOW_PRECISION, _LOW_PRECISION_TOKEN = 1.0, 0.05
"""Nats of a text and of a token; measured in bfloat16: up to 0.6 over 19 tokens, 1.1 over 46."""


def log_likelihoods(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return ``log p`` of each token under its row of logits: [tokens], float32."""
    wanted = torch.split(tokens.to(logits.device), _ROWS)
    pairs = zip(torch.split(logits, _ROWS), wanted, strict=True)
    parts = [-cross_entropy(rows.float(), those, reduction="none") for rows, those in pairs]
    return torch.cat(parts)


class TextScorer(TreeScorer):
    """Scores branches by their log-likelihood after the prefix, in nats."""

    what = "log-likelihoods"

    def tolerance(self, trees: Sequence[Tree]) -> float:
        """Return how far the ways may differ: what is rounded adds up over a text's tokens."""
        if self.is_exact:
            return super().tolerance(trees)
        longest = max(len(branch) for tree in trees for branch in tree.branches)
        return max(_LOW_PRECISION, _LOW_PRECISION_TOKEN * longest)

    def plain(self, tree: Tree) -> Tensor:
        """Score one tree's branches as separate prompts, one at a time: [branches]."""
        scores = []
        for prompt, branch in zip(separate_prompts(tree), tree.branches, strict=True):
            ids = to_device(torch.tensor([prompt]), self._model.device)
            logits = self._model(input_ids=ids, use_cache=False).logits[0]
            shown = logits[len(prompt) - len(branch) - 1 : -1]
            scores.append(log_likelihoods(shown, torch.tensor(branch)).sum())
        return torch.stack(scores)

    @contextmanager
    def ways(self) -> Iterator[Ways]:
        """Leave the model as it is: every token is asked for."""
        yield Ways(self._packed, self._cached)

    def _packed(self, trees: Sequence[Tree]) -> Tensor:
        packed, wanted = pack(trees), list(branch_predictions(trees))
        places, tokens = _columns(wanted)
        keep = to_device(places, self._model.device)
        logits = self._model(**packed.inputs(self._model), logits_to_keep=keep).logits
        return _sums(log_likelihoods(logits[0], tokens), list(map(len, wanted)))

    def _cached(self, tree: Tree) -> Tensor:
        limits, size = self.limits, len(tree.prefix)
        over, scores = OverCache(self._model, tree), []
        for part, packed in over.chunks(min(limits.chunk - size, limits.branches)):
            wanted = list(branch_predictions([part]))
            firsts = torch.tensor([branch[0][1] for branch in wanted])
            found = log_likelihoods(over.firsts(part), firsts)
            later = [[(place - size, token) for place, token in each[1:]] for each in wanted]
            if any(later):
                places, tokens = _columns(later)
                rest = log_likelihoods(over.logits(packed, places), tokens)
                found = found + _sums(rest, list(map(len, later)))
            scores.append(found)
        return torch.cat(scores)


def _columns(wanted: Sequence[Sequence[Prediction]]) -> tuple[Tensor, Tensor]:
    """Return places and tokens of all predictions, each [predictions]."""
    flat = [prediction for each in wanted for prediction in each]
    places, tokens = zip(*flat, strict=True)
    return torch.tensor(places), torch.tensor(tokens)


def _sums(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """Sum runs of values; one after another, so that a sum depends on its own values alone."""
    return torch.stack([part.sum() for part in torch.split(values, list(lengths))])
