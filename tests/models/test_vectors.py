"""Vectors of items: never twice, resumable, the same whoever is asked about with them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trec_cli.core.errors import InputError
from trec_cli.core.progress import Silent
from trec_cli.core.records import Item
from trec_cli.models.embedder import Embedder, EmbedderSource
from trec_cli.models.source import ModelSource
from trec_cli.models.vector_store import TextKeys, VectorStore
from trec_cli.models.vectors import CatalogueVectors, VectorMaker, embedding_text, item_vectors
from trec_cli.summarize.engine import Generation, Store

ITEMS = {
    "a": Item("a", {"title": "tea", "brand": "B"}),
    "b": Item("b", {"title": "jazz\nrecords", "brand": ""}),
    "same": Item("same", {"title": "tea", "brand": "B"}),
    "empty": Item("empty", {"title": " "}),
    "long": Item("long", {"title": "kettle " * 30}),
    "日": Item("日", {"title": "日本 🍵"}),
}


def maker(folder: Path, store: Path, **more: Any) -> VectorMaker:
    chosen = EmbedderSource(str(folder), ModelSource("none", device="cpu"))
    return VectorMaker(chosen, VectorStore(store), **{"max_tokens": 64, **more})


def test_the_text_of_an_item_is_its_values_on_one_line() -> None:
    assert embedding_text(ITEMS["a"]) == "tea; B"
    assert embedding_text(ITEMS["b"]) == "jazz records"
    assert embedding_text(ITEMS["a"], ["brand"]) == "B"
    assert embedding_text(ITEMS["empty"]) == ""


def test_vectors_have_length_one_and_equal_texts_are_made_once(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    made = maker(tiny_embedder, tmp_path / "s.sqlite")
    vectors = item_vectors(ITEMS, ["b", "a", "same", "empty", "long", "日", "a"], made)
    assert list(vectors.rows) == ["b", "a", "same", "empty", "long", "日"]
    lengths = np.linalg.norm(vectors.matrix, axis=1)
    assert lengths == pytest.approx([1, 1, 1, 0, 1, 1], abs=1e-6)
    assert (vectors.of(["a"]) == vectors.of(["same"])).all()
    assert (made.made, made.hits) == (4, 0)


def test_nothing_is_embedded_twice(tmp_path: Path, tiny_embedder: Path) -> None:
    first = item_vectors(ITEMS, ["a", "b"], maker(tiny_embedder, tmp_path / "s.sqlite"))
    again = maker(tiny_embedder, tmp_path / "s.sqlite")
    second = item_vectors(ITEMS, ["b", "a", "long"], again)
    assert (again.made, again.hits) == (1, 2)
    assert (second.of(["a", "b"]) == first.of(["a", "b"])).all()


def test_texts_and_vectors_share_a_file(tmp_path: Path, tiny_embedder: Path) -> None:
    path = tmp_path / "s.sqlite"
    text = Generation("t", 1, 1, True)
    with Store(path) as store:
        store.put({b"k": text})
        item_vectors(ITEMS, ["a"], maker(tiny_embedder, path))
        assert store.get([b"k"]) == {b"k": text}
    with VectorStore(path) as vectors:
        keys = TextKeys(maker(tiny_embedder, path).identity)
        assert len(vectors.get([keys.key("tea; B")])[keys.key("tea; B")]) == 32


class _Dying(Embedder):
    """Fails when its time has come."""

    left: int

    def embed(self, texts: Sequence[str]) -> Any:
        object.__setattr__(self, "left", self.left - 1)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().embed(texts)


def test_a_killed_run_goes_on_with_the_same_batches(
    tmp_path: Path, tiny_embedder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = {f"i{n}": Item(f"i{n}", {"title": "tea " * (1 + n % 9) + str(n)}) for n in range(30)}
    whole = item_vectors(items, items, maker(tiny_embedder, tmp_path / "whole.sqlite"))

    load = EmbedderSource.load

    def dying(self: EmbedderSource) -> Embedder:
        embedder = _Dying(**vars(load(self)))
        object.__setattr__(embedder, "left", 2)
        return embedder

    monkeypatch.setattr(EmbedderSource, "load", dying)
    with pytest.raises(KeyboardInterrupt):
        item_vectors(items, items, maker(tiny_embedder, tmp_path / "killed.sqlite"))
    monkeypatch.undo()
    again = maker(tiny_embedder, tmp_path / "killed.sqlite")
    vectors = item_vectors(items, items, again)
    assert 0 < again.hits < 30
    assert again.made + again.hits == 30
    assert (vectors.matrix == whole.matrix).all()


def test_vectors_of_the_language_model_do_not_depend_on_who_is_asked_about(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    items = {f"i{n}": Item(f"i{n}", {"title": f"thing {n * 7}"}) for n in range(50)}
    items["empty"] = Item("empty", {"title": ""})
    chosen = EmbedderSource("llm", ModelSource(str(tiny_model()), device="cpu"))
    with VectorStore(tmp_path / "s.sqlite") as store:
        made = VectorMaker(chosen, store, max_tokens=400)
        everything = item_vectors(items, items, made)
        few = item_vectors(items, ["i3", "empty"], made)
    assert (few.of(["i3"]) == everything.of(["i3"])).all()
    assert not few.of(["empty"]).any()
    # Standardised over all 50 texts, every dimension has mean 0, so their sum is small.
    cosines = everything.matrix[:-1] @ everything.matrix[:-1].T
    assert abs(float(cosines.mean())) < 0.1
    assert made.made == 50


def test_vectors_of_several_embedders_stand_side_by_side(
    tmp_path: Path, tiny_embedder: Path, tiny_model: Callable[..., Path]
) -> None:
    items = {f"i{n}": Item(f"i{n}", {"title": f"thing {n * 7}"}) for n in range(9)}
    items["empty"] = Item("empty", {"title": ""})
    here = ModelSource("none", device="cpu")
    both = EmbedderSource.each(f"{tiny_embedder},{tiny_model()}", here)
    parts = [CatalogueVectors([one], tmp_path / "s.sqlite").of(items, Silent()) for one in both]
    chosen = CatalogueVectors(both, tmp_path / "s.sqlite")
    joined = chosen.of(items, Silent())
    assert joined.shape == (10, sum(part.shape[1] for part in parts))
    assert np.linalg.norm(joined, axis=1) == pytest.approx([1.0] * 9 + [0.0], abs=1e-6)
    cosines = sum(part @ part.T for part in parts) / 2
    assert np.abs(joined @ joined.T - cosines).max() < 1e-6
    assert chosen.identity()["embedder"] == [one.identity() for one in both]


def test_no_items_give_no_vectors(tmp_path: Path, tiny_embedder: Path) -> None:
    vectors = item_vectors(ITEMS, [], maker(tiny_embedder, tmp_path / "s.sqlite"))
    assert vectors.matrix.shape[0] == 0
    assert vectors.of([]).shape[0] == 0


def test_a_vector_that_is_cut_off_is_a_clear_error(tmp_path: Path) -> None:
    with VectorStore(tmp_path / "s.sqlite") as store:
        store.put({b"k": np.zeros(3, dtype=np.float32)})
        store._db.execute("UPDATE vectors SET vector = x'00ff00'")
        with pytest.raises(InputError, match="damaged or not a store"):
            store.get([b"k"])
