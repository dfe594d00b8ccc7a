"""Scoring by one signal of the blend alone (``--scorer signal:follows``)."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from trec_cli.core.errors import UsageError
from trec_cli.core.records import Example
from trec_cli.score.job import Job, Material, read_material
from trec_cli.score.kinds import SIGNAL
from trec_cli.score.options import Asked
from trec_cli.signals.blend import Learner, Pairs
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events
from trec_cli.signals.learn import learn_shares

_DECIMALS = 5
"""Beyond them, equal evidence would differ by the order in which a machine adds."""


def make_signal_job(asked: Asked, scorer: str) -> "SignalJob":
    """Read the files and learn the signals.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
        UsageError: there is no such signal.
    """
    job = SignalJob(asked, scorer, read_material(asked, scorer))
    job.check()
    return job


class SignalJob(Job):
    """A job for one signal; questions of train are asked without a tenth of its users."""

    def __init__(self, asked: Asked, scorer: str, material: Material) -> None:
        """Describe the settings; nothing is learnt yet."""
        self._name, self._seed = scorer.removeprefix(SIGNAL), asked.seed
        super().__init__(scorer.replace(":", "-"), material, {"seed": asked.seed})
        self._material = material

    @cached_property
    def _learner(self) -> Learner:
        catalogue = EncodedCatalogue.of(self._material.items)
        events = Events.of(self._material.everything, catalogue.rows)
        return Learner(catalogue, events, self._seed, further=learn_shares)

    def check(self) -> None:
        """Refuse a signal that these items do not have.

        Raises:
            UsageError: naming those that there are.
        """
        known = self._learner.signals()
        if self._name not in known:
            raise UsageError(
                f"--scorer {SIGNAL}{self._name}: there is no such signal of these items; there "
                f"are {', '.join(known)}"
            )

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples."""
        examples = [self.examples[index] for index in batch]
        found = dict(self._parts(examples))
        return [found[index] for index in range(len(examples))]

    def _parts(self, examples: Sequence[Example]) -> Iterator[tuple[int, list[float]]]:
        rows = self._learner.catalogue.rows
        for indices, signals in self._learner.parts(examples):
            own = [examples[index] for index in indices]
            candidates = [example.candidates for example in own]
            pairs = Pairs.of((example.history for example in own), candidates, rows)
            signal = signals[self._name]
            values = signal.at(pairs.asked, pairs.questions, pairs.candidates).astype(float)
            ends = np.cumsum([0, *map(len, candidates)])
            for place, index in enumerate(indices):
                mine = values[ends[place] : ends[place + 1]]
                yield index, np.round(mine, _DECIMALS).tolist()
