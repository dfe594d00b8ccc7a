"""RecBole's atomic files: tab-separated tables whose header names field and type.

RecBole reads them with pandas, to which tabs, newlines, quotes and words like ``NA`` mean
something.  Ids are therefore written as :func:`item_token` and :func:`user_token`, which
can be undone; texts as their words.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from trec_cli.core.outputs import write_lines
from trec_cli.core.records import ANSWERED, PREDICT, Example, Item
from trec_cli.core.text import terms
from trec_cli.recbole import TrainOn

GENERAL, SEQUENTIAL = "general", "sequential"
LONGEST = 50
"""Items of a history that a model sees: the newest."""


def item_token(item_id: str) -> str:
    """Write an item id so that no reader stumbles: ``a b`` gives ``i_a%20b``."""
    return "i_" + quote(item_id, safe="")


def user_token(user_id: str) -> str:
    """Write a user id in the same way: ``a b`` gives ``u_a%20b``."""
    return "u_" + quote(user_id, safe="")


class Row(NamedTuple):
    """One thing to learn: after ``history`` (oldest first) ``user`` took ``item``."""

    user: str
    history: tuple[str, ...]
    item: str


def training_rows(examples: Sequence[Example], train_on: TrainOn = "histories") -> list[Row]:
    """List what a baseline may learn, each row once, in the order of the examples.

    Of split train: every item of the history after those before it, and every positive after
    the whole history.  Of valid and test, with ``histories``: the items of the histories
    alone, which are known when the question is asked; of predict nothing, since its histories
    hold the answers of other questions.  Never a row that tells the answer of
    another question of its user, as there are where one user is in several splits, or asks
    several times: one that is such a question, or has its answer as the item to learn, where
    the question's own history does not have it too.
    """
    asked = _asked(examples)
    rows: dict[Row, None] = {}
    for example in examples:
        known = train_on == "histories" and example.split != PREDICT
        if example.split == "train" or known:
            others = [other for other in asked[example.user_id] if other is not example]
            rows.update((row, None) for row in _rows(example) if not _gives_away(row, others))
    return list(rows)


def _asked(examples: Sequence[Example]) -> defaultdict[str, list[Example]]:
    """Collect each user's examples of split valid and test."""
    found: defaultdict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.split != "train":
            found[example.user_id].append(example)
    return found


def _rows(example: Example) -> Iterator[Row]:
    history = example.history
    for index, item in enumerate(history):
        yield Row(example.user_id, tuple(history[max(0, index - LONGEST) : index]), item)
    if example.split == "train":
        for item in example.positives:
            yield Row(example.user_id, tuple(history[-LONGEST:]), item)


def _gives_away(row: Row, asked: Iterable[Example]) -> bool:
    """Return whether a row answers a question; histories may have lost their oldest items."""
    return any(
        row.item in question.positives
        and (row.item not in question.history or _end_alike(row.history, question.history))
        for question in asked
    )


def _end_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    length = min(len(one), len(other))
    return list(one[len(one) - length :]) == list(other[len(other) - length :])


def trained_items(rows: Iterable[Row]) -> set[str]:
    """Return every item in a row; all others are cold: no model has learnt anything of them."""
    return {item for row in rows for item in (*row.history, row.item)}


def write_atomic_files(
    folder: Path,
    items: Mapping[str, Item],
    examples: Sequence[Example],
    train_on: TrainOn = "histories",
) -> list[Row]:
    """Write both data sets and give the rows of training.

    ``general/`` has pairs of user and item, for models that know users; ``sequential/`` has
    ``item_id_list`` (the history), and is read with ``alias_of_item_id: [item_id_list]``.
    Each has ``NAME.train.inter``, ``NAME.valid.inter``, ``NAME.test.inter`` (RecBole's
    ``benchmark_filename``) and ``NAME.item`` with the words of each attribute.
    """
    trained = training_rows(examples, train_on)
    parts = {
        split: trained if split == "train" else _questions(examples, split) for split in ANSWERED
    }
    for split, rows in parts.items():
        general = dict.fromkeys((row.user, row.item) for row in rows)
        _write(folder, GENERAL, f"{split}.inter", _pairs(general))
        _write(folder, SEQUENTIAL, f"{split}.inter", _sequences(rows))
    for name in (GENERAL, SEQUENTIAL):
        _write(folder, name, "item", _item_table(items))
    return trained


def _questions(examples: Sequence[Example], split: str) -> list[Row]:
    return [
        Row(example.user_id, tuple(example.history[-LONGEST:]), item)
        for example in examples
        if example.split == split
        for item in example.positives
    ]


def _write(folder: Path, name: str, ending: str, lines: Iterable[str]) -> None:
    write_lines(folder / name / f"{name}.{ending}", (f"{line}\n".encode() for line in lines))


def _pairs(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "user_id:token\titem_id:token"
    for user, item in pairs:
        yield f"{user_token(user)}\t{item_token(item)}"


def _sequences(rows: Iterable[Row]) -> Iterator[str]:
    """Leave out rows without history: a sequential model cannot learn from them."""
    yield "user_id:token\titem_id_list:token_seq\titem_id:token"
    for row in rows:
        if row.history:
            history = " ".join(map(item_token, row.history))
            yield f"{user_token(row.user)}\t{history}\t{item_token(row.item)}"


def _item_table(items: Mapping[str, Item]) -> Iterator[str]:
    names = list(dict.fromkeys(name for item in items.values() for name in item.attributes))
    columns = [f"{column}:token_seq" for column in _columns(names)]
    yield "\t".join(["item_id:token", *columns])
    for item in items.values():
        words = (" ".join(terms(item.attributes.get(name, ""))) for name in names)
        yield "\t".join([item_token(item.item_id), *words])


def _columns(names: Sequence[str]) -> list[str]:
    """Make column names of attribute names: no colon or white space, none twice."""
    plain = ["_".join(terms(name)) or "text" for name in names]
    return [
        name if plain.count(name) == 1 and name != "item_id" else f"{name}_{index}"
        for index, name in enumerate(plain, 1)
    ]
