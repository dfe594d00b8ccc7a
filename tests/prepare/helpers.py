"""Small collections in memory and on disk."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trec_cli.core.progress import Silent
from trec_cli.core.records import Example, Item
from trec_cli.prepare.archive import Source
from trec_cli.prepare.build import Prepared, build
from trec_cli.prepare.collection import Collection, Offer, Question, ReadOptions, catalogue_of
from trec_cli.prepare.detect import detect
from trec_cli.prepare.settings import PrepareSettings

READ = ReadOptions(None)


def settings(**changes: Any) -> PrepareSettings:
    """Return settings that keep everything, but for ``changes``."""
    defaults = {"min_history": 0, "max_history": 50, "long": "keep-last", "population": "catalogue"}
    chosen = {"read": READ, **defaults, **changes}
    return PrepareSettings(**chosen)


def question(user: str, items: Sequence[str], **fields: Any) -> Question:
    """Make a question of a timeline: its last item is the target."""
    return Question(user, list(items[:-1]), [items[-1]], file="timelines", **fields)


def collection(
    questions: Iterable[Question], ids: Iterable[str], offers: Offer | None = None
) -> Collection:
    """Make a collection whose items have their id in the title; an empty id gives no text."""
    items = {item: Item(item, {"title": f"title of {item}"}) for item in ids}
    return Collection(catalogue_of(items, "items"), iter(list(questions)), offers, file="sequences")


def prepare(source: Collection, **changes: Any) -> tuple[list[Example], Prepared]:
    """Build a collection and read all its examples and items."""
    prepared = build(source, settings(**changes), Silent())
    examples = list(prepared.examples())
    list(prepared.items())
    return examples, prepared


def read(path: Path, name: str = "auto", **options: Any) -> tuple[dict[str, Item], list[Question]]:
    """Read a source: its whole catalogue, and its questions."""
    with Source(path) as source:
        found = detect(source, name)
        chosen = {"attributes": found.format.defaults.attributes, **options}
        got = found.format.read(source, found.files, ReadOptions(**chosen), Silent())
        questions = list(got.questions)
        items = {item.item_id: item for item in got.catalogue.fetch(sorted(got.catalogue.ids))}
    return items, questions


def counts(path: Path, **options: Any) -> Mapping[str, int]:
    """Read a source wholly and give the reader's counts."""
    with Source(path) as source:
        found = detect(source)
        chosen = {"attributes": found.format.defaults.attributes, **options}
        got = found.format.read(source, found.files, ReadOptions(**chosen), Silent())
        list(got.questions)
    return got.counts


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    """Write records one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path
