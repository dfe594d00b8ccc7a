"""The store of everything a model has written, in SQLite, so that nothing is made twice.

A text is found by its content: a hash of the engine's identity (model, revision, decoding)
and of what it is given: the prompt's token ids, or the message where a server makes the
tokens.  Runs, modes and grown histories share one store
(:mod:`trec_cli.core.database`).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from trec_cli.core.database import IN_MEMORY, ContentKeys, ContentStore
from trec_cli.summarize.engine import Generation

__all__ = ["IN_MEMORY", "Keys", "Store", "id_bytes"]


def id_bytes(ids: Sequence[int]) -> bytes:
    """Write token ids as bytes, four each, little-endian."""
    return np.asarray(ids, dtype="<u4").tobytes()


class Keys(ContentKeys):
    """Makes the keys of one engine's texts."""

    def key(self, ids: Sequence[int]) -> bytes:
        """Hash the prompt's token ids together with the engine's identity."""
        return self.of(id_bytes(ids))


class Store(ContentStore[Generation]):
    """Texts by key."""

    table = "generations"
    columns: ClassVar[dict[str, str]] = {
        "text": "TEXT NOT NULL",
        "prompt_tokens": "INTEGER NOT NULL",
        "new_tokens": "INTEGER NOT NULL",
        "stopped": "INTEGER NOT NULL",
    }

    def _to_row(self, value: Generation) -> tuple[Any, ...]:
        return value.text, value.prompt_tokens, value.new_tokens, value.stopped

    def _from_row(self, *row: Any) -> Generation:
        text, prompt_tokens, new_tokens, stopped = row
        return Generation(text, prompt_tokens, new_tokens, bool(stopped))
