"""Why an item is recommended: the signal that raised it most, and the history item behind it.

The signal is the one with the highest contribution to the score, ``weight * (value - mean
over the user's candidates)``, among those that read the history.  The history item is the
one, of the newest ten, that alone gives this signal the highest value, older ones counting
less as the blend has it.  Where no signal of the history raised the item, there is no reason.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trec_cli.recommend.records import Reason
from trec_cli.signals.blend import VARYING, Blend, Pairs
from trec_cli.signals.histories import Histories, Rows
from trec_cli.signals.learn import DECAY, OF_ITEMS

_NEWEST = 10


def find_reasons(
    blend: Blend, pairs: Pairs, features: NDArray[np.float64], names: Sequence[str], chosen: Rows
) -> list[Reason | None]:
    """Explain chosen pairs.

    Args:
        blend: that scored them.
        pairs: of all candidates of some questions.
        features: of the pairs.
        names: of the catalogue's rows.
        chosen: indices of the pairs to explain.
    """
    signals = blend.learner.signals()
    strongest, gain = _strongest(blend, pairs, features, chosen)
    behind = np.full(len(chosen), -1)
    for index, name in enumerate(signals):
        own = np.flatnonzero((strongest == index) & (gain > 0))
        if len(own):
            behind[own] = _history_items(blend, name, pairs, chosen[own])
    labels = list(signals)
    return [
        Reason(signal=labels[index], history_item=names[row]) if row >= 0 else None
        for index, row in zip(strongest.tolist(), behind.tolist(), strict=True)
    ]


def _strongest(
    blend: Blend, pairs: Pairs, features: NDArray[np.float64], chosen: Rows
) -> tuple[Rows, NDArray[np.float64]]:
    """Return for each chosen pair the signal with the highest contribution, and that."""
    count = len(pairs.asked)
    number = np.maximum(np.bincount(pairs.questions, minlength=count), 1)
    sums = np.zeros((count, features.shape[1]))
    np.add.at(sums, pairs.questions, features)
    own = features[chosen] - (sums / number[:, None])[pairs.questions[chosen]]
    weighed = own * blend.logit.weights
    names = list(blend.learner.signals())
    contributions = weighed[:, : len(names)]
    for column, name in enumerate(VARYING, start=len(names)):
        contributions[:, names.index(name)] += weighed[:, column]
    contributions[:, [name in OF_ITEMS for name in names]] = -np.inf
    best = contributions.argmax(axis=1)
    return best, contributions[np.arange(len(chosen)), best]


def _history_items(blend: Blend, name: str, pairs: Pairs, chosen: Rows) -> Rows:
    """Return the row of the history item behind each pair; -1 where none speaks for it."""
    asked, questions = pairs.asked, pairs.questions[chosen]
    ends = asked.ends[1:][questions]
    lengths = np.minimum(asked.lengths[questions], _NEWEST)
    owner = np.repeat(np.arange(len(chosen)), lengths)
    ages = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = asked.items[ends[owner] - 1 - ages]
    alone = Histories(items, np.arange(len(items) + 1), asked.catalogue)
    signal = blend.learner.signals()[name]
    values = signal.at(alone, np.arange(len(items)), pairs.candidates[chosen][owner])
    values = values * DECAY**ages
    behind = np.full(len(chosen), -1)
    order = np.lexsort((-ages, values, owner))  # the last of each owner: highest, then newest
    last = np.flatnonzero(np.diff(owner[order], append=-1))
    best = order[last]
    speaks = values[best] > 0
    behind[owner[best[speaks]]] = items[best[speaks]]
    return behind
