"""A line of recommendations, and the question that it answers."""

import hashlib

import msgspec

from trec_cli.core.records import Example
from trec_cli.score.recommendations import Recommended


class UserList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The list of one user, best first.

    ``question`` is a hash of the history that it answers: the next night keeps the list of a
    user with the same history.
    """

    user_id: str
    items: list[Recommended]
    question: str = ""


def question_hash(example: Example) -> str:
    """Hash the example's id and history, what a cap has cut away included."""
    history = (*example.history, *(example.older or ()))
    text = "\0".join((example.example_id, str(example.start), *history))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
