"""Scoring by all cheap signals in one conditional logit (``--scorer blend``).

The fitted weights lie beside the scores, in ``model-blend.json`` (``model-blend-train.json``
for split valid, of which they know nothing), and are taken again by whatever is scored of the
same items and examples with the same seed.  What took long to learn (counts of items taken
together, nearest texts, sequence models) lies in a folder beside them, ``learnt-blend``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trec_cli.core.attributes import check_attributes
from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import Provenance, is_unfinished, recorded_settings
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.records import PREDICT, Example, Reason, Split
from trec_cli.core.seeds import fold_of
from trec_cli.score.job import Job, Material, read_material
from trec_cli.score.kinds import BLEND
from trec_cli.score.options import Asked
from trec_cli.sequence.settings import models_of
from trec_cli.signals.blend import (
    Blend,
    Learner,
    Pairs,
    feature_names,
    load_logit,
    save_logit,
    varying_of,
)
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.learn import SIGNALS, missing_signals
from trec_cli.signals.reasons import find_reasons
from trec_cli.signals.renewal import Course
from trec_cli.signals.shelf import Shelf

if TYPE_CHECKING:
    from trec_cli.models.vectors import CatalogueVectors

_SHOWN = 4


def make_blend_job(
    asked: Asked,
    progress: Progress,
    *,
    vectors: "CatalogueVectors | None" = None,
    sequence_models: int | None = None,
) -> "BlendJob":
    """Read the files; nothing is learnt yet.

    Args:
        asked: the questions.
        progress: where to say what goes on.
        vectors: of an embedder; without them those of term counts stand in.
        sequence_models: to train, whose mean is one more signal; None trains the usual ones.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
        ModelError: there is no such embedder.
    """
    material = read_material(asked, BLEND)
    if vectors is not None:
        check_attributes(vectors.attributes, material.items)
    models = models_of(sequence_models, embedded=vectors is not None, items=len(material.items))
    return BlendJob(asked, material, progress, vectors, models)


class BlendJob(Job):
    """A job for the blend; it is fitted, or read, when the first batch is scored."""

    unfinished: Mapping[str, Any] = MappingProxyType({"signals": SIGNALS})

    def __init__(
        self,
        asked: Asked,
        material: Material,
        progress: Progress,
        vectors: "CatalogueVectors | None" = None,
        sequence_models: int = 0,
    ) -> None:
        """Describe the settings; where valid is scored, no weight comes from it."""
        self._learnt_from: tuple[Split, ...] = ("train", "valid")
        if asked.split == "valid":
            self._learnt_from = ("train",)
        self._course = _course(material.everything, asked.split, self._learnt_from)
        self._apart = asked.split == "train" or self._course.asks_train
        models: dict[str, Any] = {"sequence_models": sequence_models} if sequence_models else {}
        if models and self._apart:
            models["sequence_apart"] = True
        self._own: dict[str, Any] = {
            "scorer": BLEND,
            "seed": asked.seed,
            "learnt_from": self._learnt_from,
            **(vectors.identity() if vectors else {}),
            **models,
        }
        super().__init__(BLEND, material, self._own)
        self._material, self._seed, self._progress = material, asked.seed, progress
        self._split, self._vectors = asked.split, vectors
        self._sequence_models = sequence_models
        if vectors is not None and len(vectors.sources) > 1:
            self.unfinished = {**self.unfinished, "views": len(vectors.sources)}
        self._model: Path | None = None
        self._shelf = Shelf()
        self._reused = False

    @contextmanager
    def running(self, out: Path) -> Iterator[None]:
        """Let the weights, and what took long to learn, be kept beside the output."""
        if not is_stream(out):
            name = BLEND if len(self._learnt_from) > 1 else f"{BLEND}-{self._learnt_from[0]}"
            if self._course.renewed and self._split == PREDICT:
                name = f"{BLEND}-{PREDICT}"  # more is counted than for split test
            if self._sequence_models and self._apart and not self._course.asks_train:
                name = f"{BLEND}-apart"  # other sequence models than those for split test
            self._model = out.with_name(f"model-{name}.json")
            self._shelf = Shelf(out.with_name(f"learnt-{name}"))
        yield

    @cached_property
    def _learner(self) -> Learner:
        items = self._material.items
        vectors = self._vectors.each(items, self._progress) if self._vectors else []
        catalogue = EncodedCatalogue.of(items, vectors, self._shelf)
        further = None
        if self._sequence_models:
            from trec_cli.sequence.stacking import SequenceSignals

            seeds = range(self._seed, self._seed + self._sequence_models)
            further = SequenceSignals(
                catalogue, seeds, shelf=self._shelf, progress=self._progress, apart=self._apart
            )
        return Learner(
            catalogue, self._course.events(catalogue.rows), self._seed, self._shelf, further
        )

    @cached_property
    def _blend(self) -> Blend:
        """Read the weights where they are kept, else fit and keep them."""
        if self._model is None:
            return self._fit()
        with locked(self._model), self._shelf.tidied():
            features = feature_names(self._learner.signals(), varying_of(self._learner.signals()))
            settings = {**self._own, "features": features, **self._course.settings}
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
        return self._course.fit(self._learner)

    def batches(self) -> Sequence[Sequence[int]]:
        """Cut the examples in their order; those of train fold by fold, learnt once each."""
        usual = super().batches()
        if self._split != "train":
            return usual
        folds = [fold_of(example.user_id) for example in self.examples]
        order = sorted(range(len(folds)), key=folds.__getitem__)
        return [[order[index] for index in batch] for batch in usual]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples."""
        return self._blend.score([self.examples[index] for index in batch])

    def reasons(
        self, indices: Sequence[int], chosen: Sequence[Sequence[str]]
    ) -> Sequence[Sequence[Reason | None]]:
        """Name the signal and the history item that speak most for each item.

        Those of split train are scored without their users, so nothing is said of them.
        """
        if self._split == "train":
            return super().reasons(indices, chosen)
        histories = (self.examples[index].history for index in indices)
        pairs = Pairs.of(histories, chosen, self._learner.catalogue.rows)
        found = iter(find_reasons(self._blend, pairs))
        return [list(islice(found, len(items))) for items in chosen]

    def details(self) -> dict[str, Any]:
        """Return the weights, what they were fitted on and what was counted."""
        logit = self._blend.logit
        return {
            "weights": dict(zip(logit.names, logit.coefficients.tolist(), strict=True)),
            "questions": logit.questions,
            "penalty": logit.penalty,
            "reused": self._reused,
            "renewed": self._course.renewed,
            "learnt_kept": len(self._shelf.kept),
            "learnt_made": len(self._shelf.made),
        }

    def remarks(self) -> list[str]:
        """Name the strongest signals, what was counted and which signals there are not."""
        logit = self._blend.logit
        found = sorted(
            zip(logit.names, logit.coefficients.tolist(), strict=True), key=lambda p: -abs(p[1])
        )
        strongest = ", ".join(f"{name} {weight:+.2f}" for name, weight in found[:_SHOWN])
        how = "read from" if self._reused else "kept in" if self._model else "not kept in"
        past, embedded = self._course.negatives is not None, self._learner.catalogue.embedded
        sources = "the newest item of each history" if past else self._course.asked_of
        return [
            f"blend: weights of {logit.questions} questions of {sources}, "
            f"{how} {self._model or 'a file'}; strongest: {strongest}",
            *([] if past else [str(self._course)]),
            *missing_signals(
                self._learner.signals(), embedded=embedded, renewable=self._course.renewable
            ),
            *([str(self._shelf)] if self._shelf.folder else []),
        ]


def _course(examples: Sequence[Example], split: Split, learnt_from: tuple[Split, ...]) -> Course:
    """Decide what is counted; where nothing was ever asked, the past itself is."""
    if split == PREDICT and not any(e.right for e in examples if e.split in ("train", "valid")):
        return Course.of_past(examples, learnt_from)
    return Course.of(examples, split, learnt_from)


def is_kept(model: Path, made: Provenance) -> bool:
    """Check whether a model was made of the same inputs with the same settings."""
    there = model.is_file() and not is_unfinished(model)
    return there and recorded_settings(model) == made.settings
