"""What the blend learns from before it recommends, and the weights kept from night to night."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trec_cli.core.json_file import read_json
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.records import PREDICT, Example, Item, Split
from trec_cli.recommend.options import RecommendOptions
from trec_cli.signals.blend import Blend, Learner, load_logit, save_logit
from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.learn import missing_signals
from trec_cli.signals.logit import ConditionalLogit
from trec_cli.signals.renewal import NEGATIVES, Course
from trec_cli.signals.shelf import Shelf, content_key

if TYPE_CHECKING:
    from trec_cli.sequence.stacking import SequenceSignals

_GROWTH = 1.2
"""Weights are fitted again when the log has grown by more than a fifth."""


@dataclass(frozen=True)
class Learnt:
    """A blend, whether its weights were kept from before, and what to say of it."""

    blend: Blend
    kept: bool
    told: Sequence[str] = ()


@dataclass(frozen=True)
class Kept:
    """What a file of weights holds.

    Attributes:
        logit: the weights.
        made_with: settings and signals.
        events: items of all sequences that were counted then.
        sequence: keys of the sequence models.
    """

    logit: ConditionalLogit
    made_with: Mapping[str, Any]
    events: int
    sequence: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "Kept":
        """Read it.

        Raises:
            InputError: it is no such file.
        """
        logit = load_logit(path)
        content = read_json(path, dict[str, Any])
        return cls(
            logit,
            content.get("made_with") or {},
            content.get("events", 0),
            content.get("sequence", ()),
        )

    def fits(self, made_with: Mapping[str, Any], events: int) -> bool:
        """Check whether it was made with these settings from a log not much smaller."""
        mine = {**self.made_with, "signals": None} == {**made_with, "signals": None}
        return mine and self.events <= events <= self.events * _GROWTH


def learn(
    options: RecommendOptions,
    items: Mapping[str, Item],
    examples: Sequence[Example],
    progress: Progress,
    *,
    renew: bool = False,
) -> Learnt:
    """Learn the signals, and fit the weights unless RUN has some that fit still.

    What takes long is kept beside the weights: counts and nearest texts as long as their
    inputs are the same, sequence models as long as the weights.

    Raises:
        UsageError: there is nothing to learn from.
        ModelError: the embedder cannot be used.
    """
    path, shelf = options.weights_file, Shelf(options.learnt_folder)
    with nullcontext() if path is None else locked(path), shelf.tidied():
        catalogue = EncodedCatalogue.of(items, embed(options, items, progress), shelf)
        course = _course(options, examples)
        made_with = _made_with(options, course, catalogue)
        further = _sequence_signals(options, catalogue, shelf, progress, apart=course.asks_train)
        events = course.events(catalogue.rows)
        learner = Learner(catalogue, events, options.seed, shelf, further)
        usable = path is not None and path.exists() and not renew
        blend = _kept(path, made_with, learner) if path is not None and usable else None
        kept = blend is not None
        if blend is None:
            blend = course.fit(learner)
            if path is not None:
                details = {
                    "made_with": {**made_with, "signals": list(blend.signals)},
                    "events": len(events.sequences.items),
                    "sequence": further.keys(events) if further else [],
                }
                save_logit(path, blend.logit, details)
        told = [
            *([] if options.split == PREDICT else [str(course)]),
            *missing_signals(
                blend.signals, embedded=catalogue.embedded, renewable=course.renewable
            ),
            *([str(shelf)] if shelf.folder else []),
        ]
    return Learnt(blend, kept, told)


def _course(options: RecommendOptions, examples: Sequence[Example]) -> Course:
    """Decide what is counted, and where the weights come from."""
    learnt_from: tuple[Split, ...] = ("train",) if options.split == "valid" else ("train", "valid")
    if options.split == PREDICT:
        return Course.of_past(examples, learnt_from)
    return Course.of(examples, options.split, learnt_from, NEGATIVES)


def _made_with(
    options: RecommendOptions, course: Course, catalogue: EncodedCatalogue
) -> dict[str, Any]:
    """Describe what weights can be kept for, beside the signals."""
    models: dict[str, Any] = {}
    if wanted := options.models(len(catalogue)):
        models["sequence_models"] = wanted
        models.update({"sequence_apart": True} if course.asks_train else {})
        if not catalogue.embedded:  # these vectors mean something else in another catalogue
            models["vectors"] = content_key(catalogue.views)
    return {
        "seed": options.seed,
        "embedder": options.embedder,
        "split": options.split,
        # weights made before that knew the answers of valid
        **({"learnt_from": ["train"]} if options.split == "valid" else {}),
        **models,
        **({"renewed": list(course.settings["renewed"])} if course.renewed else {}),
    }


def _sequence_signals(
    options: RecommendOptions,
    catalogue: EncodedCatalogue,
    shelf: Shelf,
    progress: Progress,
    *,
    apart: bool,
) -> "SequenceSignals | None":
    """Make what trains sequence models; None where none is wanted."""
    models = options.models(len(catalogue))
    if not models:
        return None
    from trec_cli.sequence.stacking import SequenceSignals

    seeds = range(options.seed, options.seed + models)
    return SequenceSignals(catalogue, seeds, shelf=shelf, progress=progress, apart=apart)


def _kept(path: Path, made_with: Mapping[str, Any], learner: Learner) -> Blend | None:
    """Return the blend with saved weights and sequence models; None where they fit no more."""
    found = Kept.read(path)
    if not found.fits(made_with, len(learner.events.sequences.items)):
        return None
    further: Any = learner.further
    if further is not None:
        if len(found.sequence) != len(further.seeds) * len(learner.catalogue.views):
            return None  # made when several embedders had the same models
        further = replace(further, fixed=found.sequence)
    blend = Blend(
        Learner(learner.catalogue, learner.events, learner.seed, learner.shelf, further),
        found.logit,
    )
    return blend if list(blend.signals) == found.made_with.get("signals") else None


def embed(options: RecommendOptions, items: Mapping[str, Item], progress: Progress) -> list[Floats]:
    """Embed the catalogue, each text once, by every embedder; without one there is nothing."""
    if options.embedder is None:
        return []
    from trec_cli.models.embedder import EmbedderSource
    from trec_cli.models.source import ModelSource
    from trec_cli.models.vectors import CatalogueVectors

    sources = EmbedderSource.each(options.embedder, ModelSource())
    return CatalogueVectors(sources, options.store_file).each(items, progress)
