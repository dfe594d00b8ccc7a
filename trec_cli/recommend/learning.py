"""What the blend learns from before it recommends, and the weights kept from night to night."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trec_cli.core.json_file import read_json
from trec_cli.core.progress import Progress
from trec_cli.core.records import PREDICT, Example, Item, Split
from trec_cli.recommend.options import RecommendOptions
from trec_cli.signals.blend import Blend, Learner, fit_blend, load_logit, save_logit
from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events

NEGATIVES = 200
"""Wrong answers drawn per question that the weights are fitted on."""
_GROWTH = 1.2
"""Weights are fitted again when the log has grown by more than a fifth."""


def past_examples(examples: Sequence[Example], *, predict: bool) -> list[Example]:
    """Return what may be learnt from.

    Before a prediction everything is past: each user's whole history becomes an example of
    split train whose answer is its newest item.  Otherwise examples stay as they are, and
    those of valid and test are in no count.
    """
    if not predict:
        return list(examples)
    asked = {e.user_id for e in examples if e.split == PREDICT}
    past = [_newest_as_answer(e) for e in examples if e.split == PREDICT and e.history]
    others = (e for e in examples if e.user_id not in asked)
    return [*past, *(msgspec.structs.replace(e, split="train") for e in others)]


def _newest_as_answer(example: Example) -> Example:
    return msgspec.structs.replace(
        example,
        split="train",
        history=example.history[:-1],
        positives=example.history[-1:],
        candidates=[],
    )


@dataclass(frozen=True)
class Learnt:
    """A blend, and whether its weights were kept from before."""

    blend: Blend
    kept: bool


def learn(
    options: RecommendOptions,
    items: Mapping[str, Item],
    examples: Sequence[Example],
    progress: Progress,
    *,
    renew: bool = False,
) -> Learnt:
    """Learn the signals, and fit the weights unless RUN has some that fit still.

    Raises:
        UsageError: there is nothing to learn from.
        ModelError: the embedder cannot be used.
    """
    vectors = embed(options, items, progress)
    catalogue = EncodedCatalogue.of(items, vectors)
    past = past_examples(examples, predict=options.split == PREDICT)
    learner = Learner(catalogue, Events.of(past, catalogue.rows), options.seed)
    made_with: dict[str, Any] = {
        "seed": options.seed,
        "embedder": options.embedder,
        "signals": list(learner.signals()),
        "split": options.split,
    }
    learnt_from: tuple[Split, ...] = ("train", "valid")
    if options.split == "valid":
        learnt_from = ("train",)
        made_with["learnt_from"] = ["train"]  # weights made before that knew the answers
    path = options.weights_file
    if path is not None and path.exists() and not renew:
        kept = _kept(path, made_with, learner)
        if kept is not None:
            return Learnt(kept, kept=True)
    blend = fit_blend(learner, past, negatives=NEGATIVES, splits=learnt_from)
    if path is not None:
        events = len(learner.events.sequences.items)
        save_logit(path, blend.logit, {"made_with": made_with, "events": events})
    return Learnt(blend, kept=False)


def _kept(path: Path, made_with: Mapping[str, Any], learner: Learner) -> Blend | None:
    """Return the blend with the saved weights; None where they do not fit any more."""
    logit = load_logit(path)
    content = read_json(path, dict[str, Any])
    events, before = len(learner.events.sequences.items), content.get("events", 0)
    grown = not before <= events <= before * _GROWTH
    if content.get("made_with") != made_with or grown:
        return None
    return Blend(learner, logit)


def embed(
    options: RecommendOptions, items: Mapping[str, Item], progress: Progress
) -> Floats | None:
    """Embed the catalogue, each text once; None without embedder."""
    if options.embedder is None:
        return None
    from trec_cli.models.embedder import EmbedderSource
    from trec_cli.models.source import ModelSource
    from trec_cli.models.vector_store import VectorStore
    from trec_cli.models.vectors import VectorMaker, item_vectors

    source = EmbedderSource(options.embedder, ModelSource(options.embedder))
    with VectorStore(options.store_file) as store:
        maker = VectorMaker(source, store, max_tokens=4096, progress=progress)
        return np.asarray(item_vectors(items, list(items), maker).matrix)
