"""A line of recommendations, with the reasons for it."""

import hashlib

import msgspec

from trec_cli.core.records import Example


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """What spoke most for an item: the signal, and the history item that it comes from."""

    signal: str
    history_item: str


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a user's list; ranks count from 1."""

    item_id: str
    rank: int
    score: float
    because: Reason | None = None


class UserList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The list of one user, best first.

    ``question`` is a hash of the history that it answers: the next night keeps the list of a
    user with the same history.
    """

    user_id: str
    items: list[Entry]
    question: str = ""


def question_hash(example: Example) -> str:
    """Hash the example's id and history."""
    text = "\0".join((example.example_id, str(example.start), *example.history))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
