"""Scoring by all cheap signals in one conditional logit (``--scorer blend``).

The fitted weights lie beside the scores, in ``model-blend.json`` (``model-blend-train.json``
for split valid, of which they know nothing), and are taken again by whatever is scored of the
same items and examples with the same seed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import Provenance, is_unfinished, recorded_settings
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.records import Split
from trec_cli.score.job import Job, Material, read_material
from trec_cli.score.kinds import BLEND
from trec_cli.score.options import Asked
from trec_cli.signals.blend import (
    VARYING,
    Blend,
    Learner,
    feature_names,
    fit_blend,
    load_logit,
    save_logit,
)
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events

_SHOWN = 4


def make_blend_job(asked: Asked, progress: Progress) -> "BlendJob":
    """Read the files; nothing is learnt yet.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
    """
    return BlendJob(asked, read_material(asked, BLEND), progress)


class BlendJob(Job):
    """A job for the blend; it is fitted, or read, when the first batch is scored."""

    def __init__(self, asked: Asked, material: Material, progress: Progress) -> None:
        """Describe the settings; where valid is scored, no weight comes from it."""
        self._learnt_from: tuple[Split, ...] = ("train", "valid")
        if asked.split == "valid":
            self._learnt_from = ("train",)
        self._own = {"scorer": BLEND, "seed": asked.seed, "learnt_from": self._learnt_from}
        super().__init__(BLEND, material, self._own)
        self._material, self._seed, self._progress = material, asked.seed, progress
        self._split = asked.split
        self._model: Path | None = None
        self._reused = False

    @contextmanager
    def running(self, out: Path) -> Iterator[None]:
        """Let the weights be kept beside the output."""
        if not is_stream(out):
            name = BLEND if len(self._learnt_from) > 1 else f"{BLEND}-{self._learnt_from[0]}"
            self._model = out.with_name(f"model-{name}.json")
        yield

    @cached_property
    def _learner(self) -> Learner:
        catalogue = EncodedCatalogue.of(self._material.items)
        events = Events.of(self._material.everything, catalogue.rows)
        return Learner(catalogue, events, self._seed)

    @cached_property
    def _blend(self) -> Blend:
        """Read the weights where they are kept, else fit and keep them."""
        if self._model is None:
            return self._fit()
        with locked(self._model):
            features = feature_names(self._learner.signals(), VARYING)
            settings = {**self._own, "features": features}
            made = Provenance("score", settings, self._material.files, self.hashes)
            if is_kept(self._model, made):
                self._reused = True
                return Blend(self._learner, load_logit(self._model))
            blend = self._fit()
            with made.publish(self._model):
                save_logit(self._model, blend.logit, {"seed": self._seed})
        return blend

    def _fit(self) -> Blend:
        self._progress.info("fitting the blend")
        return fit_blend(self._learner, self._material.everything, splits=self._learnt_from)

    def batches(self) -> Sequence[Sequence[int]]:
        """Cut the examples in their order; those of train fold by fold, learnt once each."""
        usual = super().batches()
        if self._split != "train":
            return usual
        folds = [self._learner.fold(example.user_id) for example in self.examples]
        order = sorted(range(len(folds)), key=folds.__getitem__)
        return [[order[index] for index in batch] for batch in usual]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples."""
        return self._blend.score([self.examples[index] for index in batch])

    def details(self) -> dict[str, Any]:
        """Return the weights, and what they were fitted on."""
        logit = self._blend.logit
        return {
            "weights": dict(zip(logit.names, logit.coefficients.tolist(), strict=True)),
            "questions": logit.questions,
            "penalty": logit.penalty,
            "reused": self._reused,
        }

    def remarks(self) -> list[str]:
        """Name the strongest signals."""
        logit = self._blend.logit
        found = sorted(
            zip(logit.names, logit.coefficients.tolist(), strict=True), key=lambda p: -abs(p[1])
        )
        strongest = ", ".join(f"{name} {weight:+.2f}" for name, weight in found[:_SHOWN])
        how = "read from" if self._reused else "kept in" if self._model else "not kept in"
        return [
            f"blend: weights of {logit.questions} questions of "
            f"{' and '.join(self._learnt_from)}, {how} {self._model or 'a file'}; "
            f"strongest: {strongest}"
        ]


def is_kept(model: Path, made: Provenance) -> bool:
    """Check whether a model was made of the same inputs with the same settings."""
    there = model.is_file() and not is_unfinished(model)
    return there and recorded_settings(model) == made.settings
