import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core import names
from trec_cli.core.names import ByName, Names, Places, Texts
from trec_cli.core.records import Summary


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2**40)), max_size=40))
def test_the_last_place_of_a_name_comes_first(pairs: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_RECENT", 3)
        places = Places()
        for name, place in pairs:
            places.add(name, place)
        for name in "abcdefghi":
            added = [place for other, place in pairs if other == name]
            found = list(places.maybe(name))
            assert found[:1] == added[-1:]


def test_names_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_RECENT", 2)
    monkeypatch.setattr(names, "hash", lambda _: 5, raising=False)
    found = ByName(Summary)
    for number in range(7):
        found.add(Summary(example_id=f"e{number}", summary=str(number)))
    assert [found[f"e{number}"].summary for number in range(7)] == list("0123456")
    assert "e7" not in found
    assert len(found) == 7
    with pytest.raises(KeyError):
        found["e7"]


def test_names_are_found_in_any_order_and_compared() -> None:
    texts = Texts()
    for number in range(200):
        texts.append(f"é{number}")
    names = Names(texts, np.array([hash(text) for text in texts]))
    assert list(names) == [f"é{number}" for number in range(200)]
    assert names[150] == "é150"
    assert [names.get(f"é{n}") for n in (0, 1, 2, 199, 3, 200, 4)] == [0, 1, 2, 199, 3, None, 4]
    assert "é7" in names
    assert "x" not in names
    few = names.only(np.array([5, 130, 2]))
    assert list(few) == ["é5", "é130", "é2"]
    assert names.places_of(few).tolist() == [5, 130, 2]
    assert few.places_of(names)[[5, 130, 2, 3]].tolist() == [0, 1, 2, -1]


def test_names_of_equal_hash_are_told_apart() -> None:
    names = Names(["b", "a"], np.array([hash("a")] * 2))
    assert names.get("a") == 1
