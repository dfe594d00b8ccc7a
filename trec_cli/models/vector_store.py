"""The store of all vectors that were computed, beside the texts, so that none is made twice."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.database import ContentKeys, ContentStore

Vector = NDArray[np.float32]
"""Shape [size]."""


class TextKeys(ContentKeys):
    """Makes the keys of one embedder's vectors."""

    def key(self, text: str) -> bytes:
        """Hash a text together with the embedder's identity."""
        return self.of(text.encode())


class VectorStore(ContentStore[Vector]):
    """Vectors by key, as float32 of any size."""

    table = "vectors"
    columns: ClassVar[dict[str, str]] = {"vector": "BLOB NOT NULL"}

    def _to_row(self, value: Vector) -> tuple[Any, ...]:
        return (value.astype("<f4").tobytes(),)

    def _from_row(self, *row: Any) -> Vector:
        return np.frombuffer(row[0], dtype="<f4")
