from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from trec_cli.core.seeds import generator
from trec_cli.prepare.negatives import Sampler

IDS = {f"i{n}" for n in range(40)}


@hypothesis_settings(max_examples=100)
@given(
    st.sets(st.sampled_from(sorted(IDS))),
    st.integers(1, 60),
    st.integers(0, 5),
    st.none() | st.just({item: n**3 for n, item in enumerate(sorted(IDS))}),
)
def test_a_draw_is_distinct_allowed_and_as_long_as_it_can_be(
    banned: set[str], number: int, seed: int, counts: dict[str, int] | None
) -> None:
    there = {item for item in IDS if counts is None or counts[item]} - banned
    drawn = Sampler(IDS, counts).draw(generator(seed, "u"), number, banned)
    assert len(drawn) == len(set(drawn)) == min(number, len(there))
    assert set(drawn) <= there


def test_a_draw_does_not_depend_on_the_order_of_the_catalogue() -> None:
    one = Sampler(dict.fromkeys(sorted(IDS)).keys())
    other = Sampler(dict.fromkeys(sorted(IDS, reverse=True)).keys())
    assert one.draw(generator(1, "u"), 5, {"i1"}) == other.draw(generator(1, "u"), 5, {"i1"})


def test_uniform_draws_are_uniform() -> None:
    sampler = Sampler(IDS)
    drawn = Counter(
        item for user in range(2000) for item in sampler.draw(generator(0, user), 4, {"i0"})
    )
    assert set(drawn) == IDS - {"i0"}
    expected = 2000 * 4 / 39
    assert all(abs(n - expected) < 5 * expected**0.5 for n in drawn.values())


@pytest.mark.parametrize("number", [1, 2])
def test_popular_items_are_drawn_in_proportion(number: int) -> None:
    """Without replacement the second of (6, 3, 1) is a: .3*6/7 + .1*6/9 = .3238."""
    sampler = Sampler({"a", "b", "c"}, {"a": 6, "b": 3, "c": 1})
    draws = [sampler.draw(generator(0, user), number, set()) for user in range(5000)]
    firsts = Counter(draw[0] for draw in draws)
    assert firsts["a"] / 5000 == pytest.approx(0.6, abs=0.03)
    assert firsts["c"] / 5000 == pytest.approx(0.1, abs=0.02)
    if number == 2:
        seconds = Counter(draw[1] for draw in draws)
        assert seconds["a"] / 5000 == pytest.approx(0.3238, abs=0.03)


def test_an_item_that_nearly_always_wins_does_not_stop_the_draw() -> None:
    counts = {"giant": 10**12, **dict.fromkeys("abcdefgh", 1)}
    drawn = Sampler(counts.keys(), counts).draw(generator(0, "u"), 6, {"giant"})
    assert len(set(drawn)) == 6


def test_nothing_to_draw_gives_nothing() -> None:
    assert Sampler(set()).draw(generator(0, "u"), 3, set()) == []
    assert Sampler({"a"}, {"a": 0}).draw(generator(0, "u"), 3, set()) == []
