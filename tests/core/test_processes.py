"""What is asked of the C library, by stand-ins for several."""

import ctypes
from types import SimpleNamespace

import pytest

from trec_cli.core.processes import keep_freed_memory

TRIM, MMAP = -1, -3


@pytest.mark.parametrize(
    ("highest", "taken"),
    [
        (1 << 31, {MMAP: 1 << 30, TRIM: 1 << 30}),
        (1 << 25, {MMAP: 1 << 25, TRIM: 1 << 30}),  # as glibc 2.31
        (0, {}),  # alone, the other would have every larger array made of new pages
    ],
)
def test_freed_memory_is_kept_as_far_as_the_c_library_lets_it(
    highest: int, taken: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[int, int] = {}

    def mallopt(name: int, value: int) -> int:
        if name == MMAP and value > highest:
            return 0
        found[name] = value
        return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory()
    assert found == taken


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    keep_freed_memory()
