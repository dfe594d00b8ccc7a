"""MIND: ``news.tsv`` and ``behaviors.tsv``, as Microsoft publishes them.

Texts stand unquoted between tabs.  The clicks of a user's history have no time of their
own; an impression has one.  Times are read as UTC, since the collection names no zone.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList, numbered_lines, open_input
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.records import PREDICT
from trec_cli.core.text import counted
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import (
    Collection,
    Defaults,
    Part,
    Question,
    ReadOptions,
    catalogue_of,
    check_attributes,
)
from trec_cli.prepare.formats import Files, Format
from trec_cli.prepare.sources.catalogues import Texts

_TEXTS = {"title": 3, "category": 1, "subcategory": 2, "abstract": 4}
_NEWS_COLUMNS = range(4, 9)
_BEHAVIOR_COLUMNS = range(5, 6)
_TIME = "%m/%d/%Y %I:%M:%S %p"
_PARTS: dict[str, Part] = {"train": "train", "dev": "dev", "valid": "dev", "test": "test"}
_PART = re.compile(rf"(?:.*[^a-z]|mind(?:small|large)?|)({'|'.join(_PARTS)})(?![a-z]).*")


@dataclass(frozen=True, slots=True)
class _Impression:
    """One line of behaviors.tsv; ``shown`` are pairs of article and whether it was clicked.

    Nothing says what was clicked (None) in MIND's test part.
    """

    identifier: str
    user_id: str
    timestamp: float | None
    history: list[str]
    shown: list[tuple[str, bool | None]]
    part: Part | None
    file: str
    line: int

    @property
    def clicked(self) -> list[str]:
        """The clicked articles, each once."""
        return list(dict.fromkeys(article for article, click in self.shown if click))

    @property
    def unlabelled(self) -> bool:
        """Whether articles were shown, and nothing says which were clicked."""
        return bool(self.shown) and all(click is None for _, click in self.shown)


def _find(source: Source) -> Files | None:
    news, behaviors = source.find(r"news\.tsv"), source.find(r"behaviors\.tsv")
    if not news or not behaviors:
        return None
    return {"news": sorted(news, key=_order), "behaviors": sorted(behaviors, key=_order)}


def _order(member: Member) -> tuple[int, str]:
    """Order the parts of a collection: train, dev, test, others by name."""
    part, parts = _part(member), list(dict.fromkeys(_PARTS.values()))
    return parts.index(part) if part else len(parts), member.name.lower()


def _part(member: Member) -> Part | None:
    """Return the part that a file's folder names: ``MINDsmall_train`` is ``train``."""
    for folder in reversed(member.name.lower().split("/")[:-1]):
        if found := _PART.fullmatch(folder):
            return _PARTS[found[1]]
    return None


def _rows(
    source: Source, member: Member, columns: range, faults: FaultList
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a tab-separated file; what is wrong becomes a fault."""
    with source.reading(member) as path, open_input(path) as stream:
        for line, raw in numbered_lines(stream, faults):
            fields = _fields(raw.removeprefix(codecs.BOM_UTF8), columns, line, faults)
            if fields is not None:
                yield line, fields


def _fields(raw: bytes, columns: range, line: int, faults: FaultList) -> list[str] | None:
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        faults.add(line, "is not UTF-8 text", "save the file as UTF-8")
        return None
    fields = text.split("\t")
    if len(fields) in columns:
        return fields
    if text:
        problem = f"has {counted(len(fields), 'column')}, not {_range_text(columns)}"
        faults.add(line, problem, "MIND separates columns by tabs; the line may be cut off")
    return None


def _range_text(columns: range) -> str:
    low, high = columns[0], columns[-1]
    return str(low) if low == high else f"{low} to {high}"


def _read(source: Source, files: Files, options: ReadOptions, progress: Progress) -> Collection:
    check_attributes(options.attributes, _TEXTS)
    counts: Counter[str] = Counter()
    names = options.attributes or tuple(_TEXTS)
    texts = Texts()
    for member in files["news"]:
        _read_news(source, member, names, texts)
    items = texts.items(counts, "news that stand in several files or twice")
    counts["news"] = len(items)
    catalogue = catalogue_of(items, ", ".join(map(str, files["news"])))
    file = ", ".join(map(str, files["behaviors"]))
    impressions = _impressions(source, files["behaviors"], counts, progress)
    if options.target == "history":
        return Collection(catalogue, _from_history(impressions, counts), None, counts, file=file)
    several = len({_part(member) for member in files["behaviors"]}) > 1
    questions = _from_impressions(impressions, options.per_impression, several, counts)
    return Collection(catalogue, questions, "impression", counts, file=file)


def _read_news(source: Source, member: Member, names: tuple[str, ...], texts: Texts) -> None:
    """Add a file's articles; train and dev share many."""
    faults = FaultList(str(member))
    empty = True
    for line, fields in _rows(source, member, _NEWS_COLUMNS, faults):
        item_id = intern(fields[0])
        if not item_id:
            faults.add(line, "has no news id", "the first column holds it")
        found = {name: fields[_TEXTS[name]] for name in names if _TEXTS[name] < len(fields)}
        texts.add(item_id, found)
        empty = False
    faults.raise_if_any()
    if empty:
        raise InputError.of(member, "is empty", "fetch it again")


def _impressions(
    source: Source, members: list[Member], counts: Counter[str], progress: Progress
) -> Iterator[_Impression]:
    """Yield all impressions; ids get the name of their part where there are several parts."""
    with progress.task("reading impressions") as task:
        for member in members:
            faults = FaultList(str(member))
            folder = f"{member.name.removesuffix(member.base)}" if len(members) > 1 else ""
            part = _part(member)
            for line, fields in _rows(source, member, _BEHAVIOR_COLUMNS, faults):
                task.advance()
                impression = _impression(fields, folder.strip("/"), part, str(member), line, faults)
                if impression is not None:
                    counts["impressions"] += 1
                    yield impression
            faults.raise_if_any()
    if not counts["impressions"]:
        raise InputError.of(", ".join(map(str, members)), "is empty", "fetch it again")


def shown_articles(source: Source) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (example id, impression id, articles as shown) of every impression, in file order.

    The example id is the one of a question without labels.

    Raises:
        InputError: there are no impressions, or some are at fault.
    """
    members = sorted(source.find(r"behaviors\.tsv"), key=_order)
    if not members:
        raise InputError.of(source.path, "holds no behaviors.tsv", "name the file of MIND")
    for impression in _impressions(source, members, Counter(), Silent()):
        articles = [article for article, _ in impression.shown]
        example_id = f"{impression.user_id}-{impression.identifier}"
        yield example_id, impression.identifier.rpartition("/")[2], articles


def _impression(
    fields: list[str], folder: str, part: Part | None, file: str, line: int, faults: FaultList
) -> _Impression | None:
    identifier, user_id, time, history, shown = fields
    try:
        if not user_id or not identifier:
            raise ValueError("has no impression id or no user id")
        return _Impression(
            f"{folder}/{identifier}" if folder else identifier,
            intern(user_id),
            _seconds(time),
            list(map(intern, history.split())),
            _all_shown(shown),
            part,
            file,
            line,
        )
    except ValueError as error:
        faults.add(line, str(error), "see docs/prepare.md for MIND's columns")
        return None


def _seconds(time: str) -> float | None:
    if not time.strip():
        return None
    try:
        return datetime.strptime(time.strip(), _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"{time!r} is not a time like 11/11/2019 9:05:58 AM") from None


def _all_shown(text: str) -> list[tuple[str, bool | None]]:
    shown = list(map(_shown, text.split()))
    if len({label is None for _, label in shown}) > 1:
        raise ValueError("has articles with and without label")
    return shown


def _shown(text: str) -> tuple[str, bool | None]:
    """Read ``N123-1``, or ``N123`` without its label."""
    article, dash, label = text.rpartition("-")
    if not dash:
        return intern(text), None
    if label not in ("0", "1") or not article:
        raise ValueError(f"{text!r} is not an article with -0 or -1")
    return intern(article), label == "1"


class _Last:
    """The last impression of every user: later by time; where that is equal or missing, by file.

    Only the question is kept: most of an impression are articles that nobody asks about.
    """

    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}
        self._times: dict[str, float | None] = {}

    def replaces(self, impression: _Impression, key: str) -> bool:
        """Check whether an impression is later than the one that is there."""
        before, now = self._times.get(key), impression.timestamp
        return before is None or now is None or now >= before

    def keep(self, impression: _Impression, key: str, question: Question) -> None:
        """Keep the question of an impression."""
        self._times[key], self.questions[key] = impression.timestamp, question


def _from_history(impressions: Iterator[_Impression], counts: Counter[str]) -> Iterator[Question]:
    """The paper's task: the last click of the history is the target, one example per user."""
    last = _Last()
    for impression in impressions:
        if not impression.history:
            counts["impressions with empty history"] += 1
        elif last.replaces(impression, impression.user_id):
            *history, target = impression.history
            part, file, line = impression.part, impression.file, impression.line
            question = Question(
                impression.user_id, history, [target], part=part, file=file, line=line
            )
            last.keep(impression, impression.user_id, question)
    counts["users"] = len(last.questions)
    yield from last.questions.values()


def _from_impressions(
    impressions: Iterator[_Impression], every: bool, several: bool, counts: Counter[str]
) -> Iterator[Question]:
    """The clicked articles of an impression are the positives, the others shown negatives.

    An impression without labels asks for what was clicked: split ``predict``.

    Args:
        impressions: all.
        every: whether each is a question, not only a user's last one.
        several: whether there are several parts, each with a last impression of its own.
        counts: what was read and left out.
    """
    last, users = _Last(), set[str]()
    seen: set[tuple[str, str]] = set()
    for impression in impressions:
        if not impression.clicked and not impression.unlabelled:
            counts["impressions without click"] += 1
            continue
        key = (impression.user_id, impression.identifier)
        asked = every or impression.unlabelled
        if asked and key in seen:
            raise InputError.of(
                impression.file,
                f"impression {impression.identifier!r} of {impression.user_id!r} stands twice",
                "give every impression an id of its own",
                impression.line,
            )
        users.add(impression.user_id)
        if impression.unlabelled:
            counts["impressions without labels"] += 1
        if asked:
            seen.add(key)
            yield _question(impression, f"-{impression.identifier}")
            continue
        part = impression.part if several else None
        of = f"{part or ''} {impression.user_id}"
        if last.replaces(impression, of):
            last.keep(impression, of, _question(impression, f"-{part}" if part else ""))
    counts["users"] = len(users)
    yield from last.questions.values()


def _question(impression: _Impression, suffix: str) -> Question:
    return Question(
        impression.user_id,
        impression.history,
        impression.clicked,
        timestamp=impression.timestamp,
        offered=[article for article, click in impression.shown if not click],
        suffix=suffix,
        split=PREDICT if impression.unlabelled else None,
        part=impression.part,
        file=impression.file,
        line=impression.line,
    )


FORMAT = Format(
    "mind",
    "news.tsv and behaviors.tsv",
    _find,
    Defaults(("title", "category", "subcategory"), min_history=10, max_history=25, long="drop"),
    _read,
    options=frozenset({"target", "per_impression"}),
)
