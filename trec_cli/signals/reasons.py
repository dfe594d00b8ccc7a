"""Why an item is recommended: the signal that raised it most, and the history item behind it.

The signal is the one with the highest contribution to the score, ``weight * (value - mean)``
with the mean over items drawn from the catalogue, among those that read the history.  The
history item is the one, of the newest ten, that alone gives this signal the highest value,
older ones counting less as the blend has it.  Where no signal of the history raised the item,
there is no reason.
"""

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.records import Reason
from trec_cli.signals.blend import Blend, Pairs
from trec_cli.signals.histories import Histories, Rows
from trec_cli.signals.learn import DECAY, reads_history

_NEWEST = 10


def find_reasons(blend: Blend, pairs: Pairs) -> list[Reason | None]:
    """Explain pairs of question and recommended item."""
    signals, names = blend.signals, list(blend.learner.catalogue.rows)
    strongest, gain = _strongest(blend, pairs)
    behind = np.full(len(strongest), -1)
    for index, name in enumerate(signals):
        own = np.flatnonzero((strongest == index) & (gain > 0))
        if len(own):
            behind[own] = _history_items(blend, name, pairs, own)
    labels = list(signals)
    return [
        Reason(signal=labels[index], history_item=names[row]) if row >= 0 else None
        for index, row in zip(strongest.tolist(), behind.tolist(), strict=True)
    ]


def _strongest(blend: Blend, pairs: Pairs) -> tuple[Rows, NDArray[np.float64]]:
    """Return for each pair the signal with the highest contribution, and that."""
    signals = blend.signals
    weighed = (pairs.features(signals, blend.varying) - blend.logit.means) * blend.logit.weights
    names = list(signals)
    contributions = weighed[:, : len(names)]
    for column, name in enumerate(blend.varying, start=len(names)):
        contributions[:, names.index(name)] += weighed[:, column]
    contributions[:, [not reads_history(name) for name in names]] = -np.inf
    best = contributions.argmax(axis=1)
    return best, contributions[np.arange(len(best)), best]


def _history_items(blend: Blend, name: str, pairs: Pairs, chosen: Rows) -> Rows:
    """Return the row of the history item behind each pair; -1 where none speaks for it."""
    asked, questions = pairs.asked, pairs.questions[chosen]
    ends = asked.ends[1:][questions]
    lengths = np.minimum(asked.lengths[questions], _NEWEST)
    owner = np.repeat(np.arange(len(chosen)), lengths)
    ages = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    items = asked.items[ends[owner] - 1 - ages]
    alone = Histories(items, np.arange(len(items) + 1), asked.catalogue)
    signal = blend.signals[name]
    values = signal.at(alone, np.arange(len(items)), pairs.candidates[chosen][owner])
    values = values * DECAY**ages
    behind = np.full(len(chosen), -1)
    order = np.lexsort((-ages, values, owner))  # the last of each owner: highest, then newest
    last = np.flatnonzero(np.diff(owner[order], append=-1))
    best = order[last]
    speaks = values[best] > 0
    behind[owner[best[speaks]]] = items[best[speaks]]
    return behind
