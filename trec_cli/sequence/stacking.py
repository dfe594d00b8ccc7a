"""Sequence models as a signal of the blend: trained on what is counted, kept on the shelf.

Where there are several embedders, each has models of its own and is a signal of its own: over
vectors side by side one model learns less (benchmarks/quality/LOG.md).

A model is kept with the whitening of its text vectors and the ids of the items that it knows,
so that it reads a catalogue that has grown since.

The weights of a signal must come from questions whose answers it has not learnt.  Where these
are of users that it learns from, each of several models is trained without a share of the users,
whom it alone is asked for; together they have learnt from everybody.  So the weights cost no
further training.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from trec_cli.core.progress import Progress, Silent
from trec_cli.core.seeds import FOLDS
from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.signal import Ranker, SequenceSignal
from trec_cli.sequence.training import train, within_budget
from trec_cli.sequence.whitening import whiten, whitening_of
from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events
from trec_cli.signals.kinds import Signal
from trec_cli.signals.learn import SEQUENCE
from trec_cli.signals.shelf import Arrays, Shelf, content_key

SETTINGS = SequenceSettings(ids=True, negatives=1 << 11)
"""Learnt vectors beside those of texts add more to the blend (docs/quality.md), and with them
few drawn items are as good as many."""
_MEAN, _AXES, _IDS = "whitening.mean", "whitening.axes", "ids"
_OF_ITEMS = ("id_vectors.weight", "id_bias.weight")


@dataclass
class SequenceSignals:
    """Makes the signals of several models, one per seed and embedder, for any events.

    Attributes:
        catalogue: whose vectors are read.
        seeds: of the models; their logits are averaged.
        settings: of each.
        shelf: where trained models are kept.
        progress: where to say what goes on.
        fixed: keys of models to be taken from the shelf, though the events have grown since.
        apart: whether questions of the users who are learnt from are asked, too.
    """

    catalogue: EncodedCatalogue
    seeds: Sequence[int]
    settings: SequenceSettings = SETTINGS
    shelf: Shelf = field(default_factory=Shelf)
    progress: Progress = field(default_factory=Silent)
    fixed: Sequence[str] = ()
    apart: bool = False
    _rankers: dict[str, Ranker] = field(default_factory=dict, repr=False)

    def __call__(self, events: Events, fold: int | None = None) -> dict[str, Signal]:
        """Train on the sequences of events, or take what was trained on them before.

        Of a fold the models answer that have not seen it; where none is, they are made.
        """
        if not (events.sequences.lengths > 1).any():
            return {}
        places: Sequence[int] = range(len(self.seeds))
        if fold is not None and self._shared:
            places = [fold % len(self.seeds)]
        elif fold is not None:
            events = events.outside([fold])
        return {
            SEQUENCE if view == 0 else f"{SEQUENCE}_{view + 1}": SequenceSignal(
                [self._ranker(events, view, n, fold) for n in places]
            )
            for view in range(len(self.catalogue.views))
        }

    @property
    def _shared(self) -> bool:
        """Whether each model leaves users out; one alone would leave out everybody."""
        return self.apart and len(self.seeds) > 1

    def keys(self, events: Events) -> list[str]:
        """Return the keys of the models of these events."""
        known = [self._known(events, n) for n in range(len(self.seeds))]
        return [
            self._key(each, view, seed)
            for view in range(len(self.catalogue.views))
            for each, seed in zip(known, self.seeds, strict=True)
        ]

    def _known(self, events: Events, place: int) -> Events:
        """Return what the model at a place learns from."""
        if not self._shared:
            return events
        return events.outside(range(place, FOLDS, len(self.seeds)))

    def _key(self, events: Events, view: int, seed: int) -> str:
        told = msgspec.json.encode([self.settings.recorded(len(self.catalogue)), seed]).decode()
        return content_key(
            [told, self.catalogue.views[view], events.sequences.items, events.sequences.ends]
        )

    def _ranker(self, events: Events, view: int, place: int, fold: int | None) -> Ranker:
        known, seed = self._known(events, place), self.seeds[place]
        fixed = self.fixed[view * len(self.seeds) + place] if self.fixed else None
        key = fixed or self._key(known, view, seed)
        if fold is not None and not self._shared:  # asked once
            return self._loaded(key, known, view, seed)
        if key not in self._rankers:
            self._rankers[key] = self._loaded(key, known, view, seed)
        return self._rankers[key]

    def _loaded(self, key: str, events: Events, view: int, seed: int) -> Ranker:
        found = self.shelf.get(SEQUENCE, key, lambda: self._trained(events, view, seed))
        texts = torch.from_numpy(whiten(self.catalogue.views[view], found[_MEAN], found[_AXES]))
        model = SequenceModel(texts.shape[1], len(texts), self.settings)
        model.load_state_dict(self._state(found))
        return Ranker.of(model, texts)

    def _trained(self, events: Events, view: int, seed: int) -> Arrays:
        vectors, histories = self.catalogue.views[view], events.sequences.rows()
        mean, axes = whitening_of(vectors)
        texts = torch.from_numpy(whiten(vectors, mean, axes))
        _, epochs = within_budget(histories, self.settings, seed)
        name = f"training sequence model {seed}" + (f" of embedder {view + 1}" if view else "")
        with self.progress.task(name, total=epochs) as bar:
            model = train(
                texts, histories, self.settings, seed, after_epoch=lambda *_: bar.advance(1)
            )
        state = {name: value.numpy() for name, value in model.state_dict().items()}
        ids = msgspec.json.encode(list(self.catalogue.rows))
        return {**state, _MEAN: mean, _AXES: axes, _IDS: np.frombuffer(ids, np.uint8)}

    def _state(self, found: Arrays) -> dict[str, torch.Tensor]:
        """Return the weights, those of items in the rows of this catalogue; new items have 0."""
        state = {
            name: torch.from_numpy(np.array(value))
            for name, value in found.items()
            if name not in (_MEAN, _AXES, _IDS)
        }
        if self.settings.ids:
            known = msgspec.json.decode(found[_IDS].tobytes(), type=list[str])
            for name in _OF_ITEMS:
                state[name] = torch.from_numpy(_moved(found[name], known, self.catalogue))
        return state


def _moved(values: NDArray[np.float32], ids: Sequence[str], catalogue: EncodedCatalogue) -> Floats:
    """Put the rows of items, by their ids, where the catalogue has them."""
    moved = np.zeros((len(catalogue), values.shape[1]), np.float32)
    pairs = [(n, catalogue.rows[name]) for n, name in enumerate(ids) if name in catalogue.rows]
    if pairs:
        before, now = np.array(pairs).T
        moved[now] = values[before]
    return moved
