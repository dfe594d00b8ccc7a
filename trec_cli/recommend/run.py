"""From a run folder to one list per user: the whole catalogue ranked by the blend."""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import (
    STREAM,
    content_hash,
    encode,
    is_stream,
    read_examples,
    read_items,
    uncollected,
)
from trec_cli.core.manifest import Provenance, file_hash, read_manifest, up_to_date
from trec_cli.core.outputs import Settings, atomic, changed_settings, fill, locked, write_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Item, Reason
from trec_cli.core.seeds import derive_seed, fold_of, generator
from trec_cli.core.text import counted, named
from trec_cli.recommend.keeping import (
    LISTS,
    NEW_WEIGHTS,
    KeptLists,
    check_users,
    known_lists,
    lists_file,
    opened,
    weights_hash,
    what_is_new,
    whole_list,
)
from trec_cli.recommend.learning import Learnt, learn
from trec_cli.recommend.options import RecommendOptions
from trec_cli.recommend.records import UserList, question_hash
from trec_cli.retrieve.filters import filter_items, read_excluded
from trec_cli.retrieve.search import (
    Best,
    Recall,
    Reranked,
    Retrieved,
    Retriever,
    Search,
    agreement,
    measure_recall,
    retrieval_signals,
    sample,
)
from trec_cli.retrieve.settings import POOL, RetrieveSettings, parse_only, parse_since
from trec_cli.score.recommendations import (
    Recommendations,
    Recommended,
    has_reasons,
    write_recommendations,
)
from trec_cli.signals.blend import Blend, Pairs
from trec_cli.signals.histories import Histories
from trec_cli.signals.reasons import find_reasons

Line = UserList | Example | bytes
"""What becomes a line of the output; bytes are one that is kept."""
_DECIMALS = 5
_NOTED = 1000
_READ = 50_000
"""Histories that are looked up at once."""


@dataclass
class ListCounts:
    """What came of a run.

    Attributes:
        users: lists written.
        kept: of them, unchanged from the output before.
        short: lists with fewer items than asked for.
        items: how often each item was recommended.
        recall: of the lists, where answers are known.
        weights_kept: whether the weights of the blend were those of an earlier run.
        remade: why lists of an earlier output were made again, by the number of users.
        shown: lists to show on the screen.
        filtered: why items were left out, by the number of items.
        taken: pairs of user and item left out since the user has the item already.
        agreement: of approximate and exact lists on a sample; None where the search is exact.
    """

    users: int = 0
    kept: int = 0
    short: int = 0
    items: "Counter[str]" = field(default_factory=Counter)
    recall: Recall = field(default_factory=lambda: Recall(0, 0))
    weights_kept: bool = False
    remade: "Counter[str]" = field(default_factory=Counter)
    shown: list[UserList] = field(default_factory=list)
    filtered: dict[str, int] = field(default_factory=dict)
    taken: int = 0
    agreement: float | None = None

    def details(self) -> dict[str, Any]:
        """Return what the manifest and ``--json`` say."""
        found: dict[str, Any] = {}
        if self.recall.asked:
            found["recall"] = round(self.recall.share, 4)
        if self.agreement is not None:
            found["agreement"] = round(self.agreement, 4)
        return {
            "users": self.users,
            "kept": self.kept,
            "made_because": dict(self.remade),
            "shorter_lists": self.short,
            "items_recommended": len(self.items),
            "weights_kept": self.weights_kept,
            "items_left_out": self.filtered,
            "taken_left_out": self.taken,
            **found,
        }


@dataclass(frozen=True)
class RecommendTask:
    """Everything read, ready to recommend."""

    options: RecommendOptions
    items: Mapping[str, Item]
    examples: Sequence[Example]
    asked: Sequence[Example]
    excluded: frozenset[str]

    @classmethod
    def read(cls, options: RecommendOptions) -> "RecommendTask":
        """Read the files.

        Raises:
            InputError: one of them is at fault, or no example is of the split.
            UsageError: the filters fit no item.
        """
        with uncollected():
            items = read_items(options.items_file)
            examples = read_examples(options.examples_file, items)
        asked = [e for e in examples if e.split == options.split][: options.limit]
        if not asked:
            fix = "run trec prepare --predict" if options.split == "predict" else "choose --split"
            raise InputError.of(
                options.examples_file, f"has no example of split {options.split}", fix
            )
        excluded = read_excluded(options.exclude, items) if options.exclude else frozenset()
        task = cls(options, items, examples, asked, excluded)
        task.filtered()  # a misspelt filter is said before anything is learnt
        return task

    def filtered(self) -> str:
        """Write for people what the filters leave of the items.

        Raises:
            UsageError: no item has an attribute that is asked for, or none is left.
        """
        wanted = self.wanted
        if not (wanted.excluded or wanted.only or wanted.since):
            return ""
        return str(filter_items(self.items, {n: row for row, n in enumerate(self.items)}, wanted))

    @property
    def shortened(self) -> int:
        """Users whose older items are not known, so that they may come again."""
        return 0 if self.options.repeats else sum(bool(e.start) and not e.older for e in self.asked)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the output, beside the files' content."""
        names = ["split", "top", "repeats", "embedder", "seed", "limit", "shortlist"]
        chosen = {name: getattr(self.options, name) for name in names}
        if models := self.options.models(len(self.items)):
            chosen["sequence_models"] = models
        only, since = parse_only(self.options.only), parse_since(self.options.since)
        added = {
            **({"since": since} if since else {}),
            **({"search": "approximate"} if self.wanted.approximate(len(self.items)) else {}),
        }
        return {**chosen, "only": only, "reasons": self.options.reasons, **added}

    @property
    def wanted(self) -> RetrieveSettings:
        """What the catalogue is searched for."""
        options = self.options
        return RetrieveSettings(
            count=options.shortlist or options.top,
            repeats=options.repeats,
            excluded=self.excluded,
            only=parse_only(options.only),
            since=parse_since(options.since),
            seed=options.seed,
            search=options.search,
        )

    @property
    def inputs(self) -> list[Path]:
        """The files that were read."""
        files = [self.options.items_file, self.options.examples_file, self.options.exclude]
        return [file for file in files if file is not None]

    @property
    def streamed(self) -> dict[str, str]:
        """The hash of what came through standard input, whose name says nothing of it."""
        read = (
            (self.options.items_file, self.items.values()),
            (self.options.examples_file, self.examples),
            (self.options.exclude, [{"excluded": sorted(self.excluded)}]),
        )
        held = [records for file, records in read if file and is_stream(file)]
        return {STREAM: content_hash(held[0])} if held else {}


def recommend(
    task: RecommendTask, progress: Progress, *, overwrite: bool = False
) -> ListCounts | None:
    """Write the recommendations; None where they are finished already.

    Where only the inputs have changed since, lists of users whose history is the same are
    kept as long as items and weights are the same, and the weights of the blend as long as the
    log has not grown much; ``overwrite`` makes everything again.

    Raises:
        SettingsChanged: the output was made with other settings, and not ``overwrite``.
        UsersGone: most of its users are gone from the examples, and not ``overwrite``.
        TrecError: as reading and learning raise it.
    """
    out = task.options.out_file
    if is_stream(out):
        counts = ListCounts()
        _write(out, _lists(task, KeptLists(task.options.top), counts, progress, renew=overwrite))
        return counts
    with locked(out):
        provenance = Provenance("recommend", task.settings, task.inputs, task.streamed)
        before = None if overwrite else _earlier_settings(out, provenance.settings)
        if before is None and up_to_date(out, provenance.settings, overwrite=overwrite):
            return None
        if before is not None:
            gone = check_users(out, {example.user_id for example in task.examples})
            if gone:
                are = counted(len(gone), "user is", "users are")
                progress.warn(f"{are} gone from the inputs, and from {out}: {named(sorted(gone))}")
        counts = ListCounts()
        last, catalogue, top = _to_keep(task, before), task.items.keys(), task.options.top
        with (
            opened(last, task.asked, catalogue, task.excluded, top) as kept,
            provenance.publish(out) as details,
        ):
            if before is not None and not task.options.keep_lists:
                kept.forget(what_is_new(out, before, provenance.settings, task.options))
            own = _write(out, _lists(task, kept, counts, progress, renew=overwrite))
            details.update(counts.details(), weights=weights_hash(task.options), **own)
    return counts


def _earlier_settings(out: Path, settings: Settings) -> Settings | None:
    """Return the settings of an output that differs from what is wanted by its inputs alone.

    What a killed run noted does not count: the file that is there is still the one before.
    """
    manifest = read_manifest(out) if out.exists() else None
    if manifest is None or manifest.get("sha256") != file_hash(out):
        return None
    old: Settings = manifest.get("settings", {})
    if changed_settings({**old, "inputs": []}, {**settings, "inputs": []}):
        return None
    return old if old.get("inputs") != settings["inputs"] else None


def _to_keep(task: "RecommendTask", before: Settings | None) -> Path | None:
    """Name the file of lists of which some may be kept; questions are made anew."""
    if before is None or task.options.shortlist is not None:
        return None
    return known_lists(task.options.out_file)


def _lists(
    task: RecommendTask, kept: KeptLists, counts: ListCounts, progress: Progress, *, renew: bool
) -> Iterator[Line]:
    """Yield one list per question, in their order."""
    made = _made(task, kept, counts, progress, renew=renew)
    first = next(made, None)  # now it is known what is kept
    made = chain([] if first is None else [first], made)
    shown = set(chosen_to_show(task))
    counts.items, counts.short, counts.remade = kept.items, kept.short, kept.remade
    with progress.task("recommending", len(task.asked)) as bar:
        for n in range(len(task.asked)):
            counts.users += 1
            if n % _NOTED == 0:
                bar.advance(min(_NOTED, len(task.asked) - n))
            if n in kept:
                counts.kept += 1
                line = kept.line(n)
                if n in shown:
                    counts.shown.append(whole_list(line))
                yield line
                continue
            one = next(made)
            if isinstance(one, UserList):
                counts.short += len(one.items) < task.options.top
                counts.items.update([entry.item_id for entry in one.items])
                if n in shown:
                    counts.shown.append(one)
            yield one


def _made(
    task: RecommendTask, kept: KeptLists, counts: ListCounts, progress: Progress, *, renew: bool
) -> Iterator[UserList | Example]:
    """Rank the catalogue for the questions whose lists are not kept.

    Those of split train are ranked fold by fold, by signals that do not know their users.
    """
    options = task.options
    if all(n in kept for n in range(len(task.asked))):
        return
    with uncollected():
        learnt: Learnt = learn(options, task.items, task.examples, progress, renew=renew)
    counts.weights_kept = learnt.kept
    for line in learnt.told:
        progress.info(line)
    if not learnt.kept and not options.keep_lists:
        kept.forget(NEW_WEIGHTS)
    fresh = [n for n in range(len(task.asked)) if n not in kept]
    searching = Searching(task, counts, progress)
    examples = [task.asked[n] for n in fresh]
    if options.split != "train":
        yield from searching.found(learnt.blend, examples)
        return
    made: dict[int, UserList | Example] = {}
    folds = [fold_of(example.user_id) for example in examples]
    for fold in sorted(set(folds)):
        own = [n for n, one in enumerate(folds) if one == fold]
        blind = replace(learnt.blend, fold=fold)
        lists = searching.found(blind, [examples[n] for n in own])
        made.update(zip(own, lists, strict=True))
    yield from (made[n] for n in range(len(examples)))


@dataclass(frozen=True)
class Searching:
    """Searches the catalogue for what a task asks, and counts."""

    task: RecommendTask
    counts: ListCounts
    progress: Progress

    def found(self, blend: Blend, examples: Sequence[Example]) -> Iterator[UserList | Example]:
        """Yield what the search finds for each question."""
        options, rows = self.task.options, blend.learner.catalogue.rows
        maker, search = ListMaker(options, blend, list(rows)), self._search(blend, examples)
        for start in range(0, len(examples), _READ):
            part = examples[start : start + _READ]
            asked = Histories.asked(part, rows)
            for first, block, found in search.blocks(asked):
                own = part[first : first + len(block)]
                yield from self._answers(maker, own, block, found)

    def _answers(
        self, maker: "ListMaker", own: Sequence[Example], block: Histories, found: Retrieved
    ) -> Iterator[UserList | Example]:
        chosen = [[maker.names[row] for row in best[best >= 0].tolist()] for best in found.rows]
        self.counts.recall = self.counts.recall.plus(measure_recall(own, chosen))
        if not self.task.options.repeats:
            self.counts.taken += sum(len({*e.history, *(e.older or ())}) for e in own)
        if maker.options.shortlist is not None:
            return map(maker.question, own, chosen)
        return maker.lists(own, block, found, chosen)

    def _search(self, blend: Blend, examples: Sequence[Example]) -> Search:
        """Make the search, and say what the filters leave and how good it is."""
        task, catalogue = self.task, blend.learner.catalogue
        filtered = filter_items(task.items, catalogue.rows, task.wanted)
        self.counts.filtered = dict(filtered.reasons)
        if filtered.reasons:
            self.progress.info(str(filtered))
        exact = Best(scorer=blend, allowed=filtered.allowed, settings=task.wanted)
        if not task.wanted.approximate(len(catalogue)):
            return exact
        count = max(POOL, 4 * task.wanted.count)
        many = replace(task.wanted, count=count, search="approximate")
        retriever = Retriever.of(task.items, catalogue, retrieval_signals(blend), many)
        search = Reranked(
            retriever=retriever, blend=blend, allowed=filtered.allowed, settings=task.wanted
        )
        asked = Histories.of(sample(examples, range(len(examples)), 0), catalogue.rows)
        found = agreement(exact, search, asked)
        self.counts.agreement = found.share
        self.progress.info(str(found))
        return search


@dataclass(frozen=True)
class ListMaker:
    """Makes lists of what a search found.

    Attributes:
        options: what is asked.
        blend: that searched.
        names: ids of the catalogue's rows.
    """

    options: RecommendOptions
    blend: Blend
    names: Sequence[str]

    def question(self, example: Example, chosen: Sequence[str]) -> Example:
        """Return a question with the best candidates, in an order that tells nothing."""
        ordered = sorted(chosen)
        draws = generator(self.options.seed, example.user_id, "retrieved", example.example_id)
        answers = example.right
        return msgspec.structs.replace(
            example,
            candidates=[ordered[n] for n in draws.permutation(len(ordered)).tolist()],
            positives=[item for item in answers if item in chosen],
            missed=[item for item in answers if item not in chosen] or None,
        )

    def lists(
        self,
        examples: Sequence[Example],
        asked: Histories,
        found: Retrieved,
        chosen: Sequence[Sequence[str]],
    ) -> Iterator[UserList]:
        """Yield the lists of a block, with reasons where they are wanted."""
        reasons = iter(self._reasons(asked, found))
        for example, items, scores in zip(examples, chosen, found.scores.tolist(), strict=True):
            entries = [
                Recommended(
                    item_id=item,
                    rank=rank,
                    score=round(score, _DECIMALS),
                    because=next(reasons, None),
                )
                for rank, (item, score) in enumerate(zip(items, scores, strict=False), start=1)
            ]
            hashed = question_hash(example)
            yield UserList(user_id=example.user_id, items=entries, question=hashed)

    def _reasons(self, asked: Histories, found: Retrieved) -> Sequence[Reason | None]:
        """Explain all items of a block, list after list; CSV and Parquet have no place for it."""
        out = self.options.out_file
        if not self.options.reasons or not has_reasons(out):
            return ()
        filled = found.rows >= 0
        questions = np.repeat(np.arange(len(asked)), filled.sum(axis=1))
        return find_reasons(self.blend, Pairs(asked, questions, found.rows[filled]))


def _write(out: Path, lists: Iterator[Line]) -> dict[str, Any]:
    """Write lists as JSONL with reasons, or as the columns of a table with the lists beside it.

    Returns:
        What the manifest says of the lists beside a table.
    """
    encoded = (one if isinstance(one, bytes) else encode(one) for one in lists)
    beside = lists_file(out)
    if beside == out:
        write_lines(out, encoded)
        return {}
    # The lists of the night before stay until the table is there, should this one be killed.
    with atomic(beside) as temporary:
        fill(temporary, encoded)
        with temporary.open("rb") as stream:
            made = map(whole_list, stream)
            plain = (Recommendations(user_id=one.user_id, items=one.items) for one in made)
            write_recommendations(out, plain)
    return {LISTS: file_hash(beside)}


def chosen_to_show(task: RecommendTask) -> list[int]:
    """Draw the questions to show by hash, those with a history of three and more first."""
    seed = task.options.seed

    def order(n: int) -> tuple[bool, int]:
        example = task.asked[n]
        return len(example.history) < 3, derive_seed(seed, "show", example.example_id)

    return heapq.nsmallest(task.options.show, range(len(task.asked)), key=order)
