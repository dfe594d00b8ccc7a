"""What a run folder already knows of its items: saved vectors, and scores without users.

Nothing is computed by a model here: what ``trec score`` and ``trec summarize`` have left is used.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

from trec_cli.audit.features import Known
from trec_cli.core.errors import TrecError
from trec_cli.core.manifest import read_manifest
from trec_cli.core.records import Item
from trec_cli.evaluate.scores import read_scores
from trec_cli.evaluate.sources import Sources, without_split
from trec_cli.models.vector_store import TextKeys, Vector, VectorStore
from trec_cli.models.vectors import embedding_text

_MOST = 50_000
"""Items above which vectors are left alone: reading them would take longer than the audit."""


def known_of(sources: Sources, items: Mapping[str, Item]) -> Known:
    """Gather what the manifests of a run lead to; empty where there is nothing.

    Raises:
        InputError: a file of scores is faulty.
    """
    return Known(_vectors(sources, items), _scores(sources.blind))


def _scores(files: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Read, by system and item, the mean score: without a user it depends on the item alone."""
    found: defaultdict[str, defaultdict[str, list[float]]]
    found = defaultdict(lambda: defaultdict(list))
    for path in files:
        of_system = found[without_split(path)]
        for _, line in read_scores(path):
            for item, score in zip(line.candidates, line.scores, strict=False):
                of_system[item].append(score)
    return {name: {i: fmean(s) for i, s in of.items()} for name, of in found.items()}


def _vectors(sources: Sources, items: Mapping[str, Item]) -> dict[str, Vector]:
    """Look up the vectors that the first embedder of the run has made of the items."""
    store = sources.store
    if store is None or not 0 < len(items) <= _MOST:
        return {}
    for settings in _embedding_settings(sources):
        keys = TextKeys(settings["embedder"])
        texts = {i: embedding_text(item, settings.get("attributes")) for i, item in items.items()}
        wanted = {item: keys.key(text) for item, text in texts.items() if text}
        with suppress(TrecError), VectorStore(store) as saved:
            found = saved.get(list(dict.fromkeys(wanted.values())))
            if found:
                return {item: found[key] for item, key in wanted.items() if key in found}
    return {}


def _embedding_settings(sources: Sources) -> Iterable[Mapping[str, Any]]:
    """Yield the settings of outputs for which items were embedded."""
    for path in sources.explained:
        settings = (read_manifest(path) or {}).get("settings", {})
        if isinstance(settings.get("embedder"), dict):
            yield settings
