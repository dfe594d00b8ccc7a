"""Sequence models as a signal of the blend: trained on what is counted, kept on the shelf.

A model is kept with the whitening of its text vectors and the ids of the items that it knows,
so that it reads a catalogue that has grown since.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from trec_cli.core.progress import Progress, Silent
from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.signal import Ranker, SequenceSignal
from trec_cli.sequence.training import train
from trec_cli.sequence.whitening import whiten, whitening_of
from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events
from trec_cli.signals.kinds import Signal
from trec_cli.signals.shelf import Arrays, Shelf, content_key

NAME = "sequence"
SETTINGS = SequenceSettings(ids=True)
"""Learnt vectors beside those of texts add more to the blend (docs/quality.md)."""
_MEAN, _AXES, _IDS = "whitening.mean", "whitening.axes", "ids"
_OF_ITEMS = ("id_vectors.weight", "id_bias.weight")


@dataclass
class SequenceSignals:
    """Makes the signal of several models, one per seed, for any events.

    Attributes:
        catalogue: whose vectors are read.
        seeds: of the models; their logits are averaged.
        settings: of each.
        shelf: where trained models are kept.
        progress: where to say what goes on.
        fixed: keys of models to be taken from the shelf, though the events have grown since.
    """

    catalogue: EncodedCatalogue
    seeds: Sequence[int]
    settings: SequenceSettings = SETTINGS
    shelf: Shelf = field(default_factory=Shelf)
    progress: Progress = field(default_factory=Silent)
    fixed: Sequence[str] = ()

    def __call__(self, events: Events) -> dict[str, Signal]:
        """Train on the sequences of events, or take what was trained on them before."""
        histories = [
            events.sequences.items[start:end].tolist()
            for start, end in zip(
                events.sequences.ends[:-1], events.sequences.ends[1:], strict=True
            )
        ]
        if not any(len(history) > 1 for history in histories):
            return {}
        keys = self.fixed or self.keys(events)
        rankers = [
            self._ranker(key, histories, seed) for key, seed in zip(keys, self.seeds, strict=True)
        ]
        return {NAME: SequenceSignal(rankers)}

    def keys(self, events: Events) -> list[str]:
        """Return the keys of the models of these events."""
        return [self._key(events, seed) for seed in self.seeds]

    def _key(self, events: Events, seed: int) -> str:
        told = msgspec.json.encode([self.settings.recorded(len(self.catalogue)), seed]).decode()
        return content_key(
            [told, self.catalogue.vectors, events.sequences.items, events.sequences.ends]
        )

    def _ranker(self, key: str, histories: Sequence[Sequence[int]], seed: int) -> Ranker:
        found = self.shelf.get(NAME, key, lambda: self._trained(histories, seed))
        texts = torch.from_numpy(whiten(self.catalogue.vectors, found[_MEAN], found[_AXES]))
        model = SequenceModel(texts.shape[1], len(texts), self.settings)
        model.load_state_dict(self._state(found))
        return Ranker.of(model, texts)

    def _trained(self, histories: Sequence[Sequence[int]], seed: int) -> Arrays:
        vectors = self.catalogue.vectors
        mean, axes = whitening_of(vectors)
        texts = torch.from_numpy(whiten(vectors, mean, axes))
        epochs = self.settings.epochs
        with self.progress.task(f"training sequence model {seed}", total=epochs) as bar:
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
