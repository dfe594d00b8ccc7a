"""Arrays on the shelf are what was made of the same inputs, or made again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from trec_cli.signals.shelf import Arrays, Shelf, content_key


def _arrays(value: int) -> Arrays:
    return {"numbers": np.array([[value, 2]], np.int32)}


def test_arrays_are_made_once_per_key(tmp_path: Path) -> None:
    first = Shelf(tmp_path).get("n", "key", lambda: _arrays(1))
    again = Shelf(tmp_path).get("n", "key", lambda: _arrays(7))
    other = Shelf(tmp_path).get("n", "another", lambda: _arrays(7))
    assert first["numbers"].tolist() == again["numbers"].tolist() == [[1, 2]]
    assert other["numbers"].tolist() == [[7, 2]]


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    Shelf(tmp_path).get("n", "key", lambda: _arrays(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:20])
    shelf = Shelf(tmp_path)
    assert shelf.get("n", "key", lambda: _arrays(3))["numbers"].tolist() == [[3, 2]]
    assert shelf.made == ["n"]


def test_what_was_not_used_is_removed_at_the_end_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    Shelf(tmp_path).get("n", "old", lambda: _arrays(1))
    shelf = Shelf(tmp_path)
    with shelf.tidied():
        shelf.get("n", "new", lambda: _arrays(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n-new.safetensors", "notes.txt"]
    with pytest.raises(RuntimeError), Shelf(tmp_path).tidied():
        raise RuntimeError
    assert (tmp_path / "n-new.safetensors").exists(), "a run that failed removes nothing"


def test_what_is_needed_in_passing_is_removed_at_the_end(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with shelf.tidied():
        shelf.get("n", "lasting", lambda: _arrays(1))
        with shelf.passing():
            shelf.get("n", "passing", lambda: _arrays(2))
            assert len(list(tmp_path.iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["n-lasting.safetensors"]


def test_matrices_come_back_as_they_were(tmp_path: Path) -> None:
    matrix = sparse.csr_matrix(np.array([[0, 2.5, 0], [0, 0, 0]], np.float32))
    for _ in range(2):
        found = Shelf(tmp_path).matrix("m", "key", lambda: matrix)
        assert found.shape == (2, 3)
        assert found.dtype == np.float32
        assert found.toarray().tolist() == [[0, 2.5, 0], [0, 0, 0]]


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    shelf = Shelf()
    with shelf.tidied():
        assert shelf.get("n", "key", lambda: _arrays(1)) is not None
    assert not list(tmp_path.iterdir())


def test_keys_tell_types_shapes_and_order_apart() -> None:
    one = np.array([1, 2, 3, 4])
    parts: list[list[Any]] = [
        [one],
        [one.astype(np.int32)],
        [one.reshape(2, 2)],
        [one, "a"],
        ["a", one],
    ]
    assert len({content_key(part) for part in parts}) == len(parts)


def test_what_was_taken_and_made_is_told_with_its_folder(tmp_path: Path) -> None:
    first, both = Shelf(tmp_path), Shelf(tmp_path)
    first.get("a", "1", lambda: _arrays(1))
    assert str(first) == f"a made anew and kept in {tmp_path}"
    both.get("a", "1", lambda: _arrays(1))
    assert str(both) == f"a taken from {tmp_path}"
    both.get("b", "1", lambda: _arrays(1))
    assert str(both) == f"a taken from {tmp_path}; b made anew and kept there"
