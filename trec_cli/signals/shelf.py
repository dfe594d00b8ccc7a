"""A folder of arrays that cost time to make, each taken again as long as its inputs are the same.

A file is named by what it holds and by a hash of all that it was made of, so a wrong one is
never taken, and a killed run finds what it had finished.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy import sparse

from trec_cli.core.outputs import atomic
from trec_cli.signals.similarity import Matrix

Arrays = Mapping[str, NDArray[Any]]
_SUFFIX = ".safetensors"


def content_key(parts: Iterable[NDArray[Any] | str]) -> str:
    """Hash arrays and texts, with their types and shapes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = np.frombuffer(part.encode(), np.uint8)
        digest.update(f"{part.dtype.str}{part.shape}".encode())
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


@dataclass
class Shelf:
    """Keeps arrays in a folder; without one it makes them each time.

    Attributes:
        folder: made when the first arrays are kept.
        kept: names of what was taken from there.
        made: names of what was made anew.
    """

    folder: Path | None = None
    kept: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    _used: set[str] = field(default_factory=set, repr=False)
    _memory: dict[str, Matrix] = field(default_factory=dict, repr=False)

    def apart(self) -> "Shelf":
        """Return a shelf that keeps nothing, for what is learnt only once."""
        return Shelf(_memory=self._memory)

    def get(self, name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
        """Return what ``make`` returns, or what it returned for the same name and key before."""
        if self.folder is None:
            self.made.append(name)
            return make()
        path = self.folder / f"{name}-{key[:20]}{_SUFFIX}"
        self._used.add(path.name)
        try:
            found: Arrays = load_file(path)
        except (OSError, SafetensorError):  # not there, or damaged
            found = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic(path) as place:
                save_file({k: np.ascontiguousarray(v) for k, v in found.items()}, place)
            self.made.append(name)
        else:
            self.kept.append(name)
        return found

    def remembered(self, name: str, key: str, make: Callable[[], Matrix]) -> Matrix:
        """Do the same as :meth:`matrix`, and have it at hand from then on."""
        if key not in self._memory:
            self._memory[key] = self.matrix(name, key, make)
        return self._memory[key]

    def matrix(self, name: str, key: str, make: Callable[[], Matrix]) -> Matrix:
        """Do the same as :meth:`get` for a sparse matrix in CSR form."""

        def arrays() -> Arrays:
            made = make()
            return {
                "data": made.data,
                "indices": made.indices,
                "indptr": made.indptr,
                "shape": np.array(made.shape),
            }

        found = self.get(name, key, arrays)
        parts = (found["data"], found["indices"], found["indptr"])
        return sparse.csr_matrix(parts, shape=tuple(found["shape"].tolist()))

    def __str__(self) -> str:
        """Write for people what was taken and what was made."""
        kept, made = (", ".join(sorted(set(names))) for names in (self.kept, self.made))
        told = [f"{kept} taken from {self.folder}"] if kept else []
        if made:
            told.append(f"{made} made anew and kept {'there' if kept else f'in {self.folder}'}")
        return "; ".join(told)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Keep what is used meanwhile for a stopped run alone: :meth:`tidied` removes it."""
        before = set(self._used)
        yield
        self._used &= before

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """Afterwards remove what was not used: it was made of inputs that have changed."""
        yield
        if self.folder is not None and self.folder.is_dir():
            for path in self.folder.glob(f"*{_SUFFIX}"):
                if path.name not in self._used:
                    path.unlink(missing_ok=True)
