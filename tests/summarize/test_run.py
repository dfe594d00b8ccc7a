"""Waves: how many examples are worked on together."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.records import Example
from trec_cli.summarize import run
from trec_cli.summarize.run import waves


def example(number: int, length: int) -> Example:
    return Example(
        example_id=f"e{number}",
        user_id="u",
        split="test",
        history=["i"] * length,
        candidates=["i"],
        positives=["i"],
    )


def lengths(made: list[list[Example]]) -> list[list[int]]:
    return [[len(each.history) for each in wave] for wave in made]


def test_a_wave_ends_at_so_many_examples_or_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WAVE", 3)
    monkeypatch.setattr(run, "WAVE_ITEMS", 10)
    given_lengths = [0, 1, 2, 0, 9, 1, 1, 25, 0]
    made = list(waves(example(n, length) for n, length in enumerate(given_lengths)))
    # Three examples; ten items; one more item; longer than a wave, alone; the rest.
    assert lengths(made) == [[0, 1, 2], [0, 9, 1], [1], [25], [0]]


def test_no_examples_make_no_wave() -> None:
    assert list(waves([])) == []


@given(st.lists(st.integers(0, 40), max_size=30))
def test_every_example_is_in_one_wave_in_order(sizes: list[int]) -> None:
    examples = [example(n, size) for n, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "WAVE", 4)
        patch.setattr(run, "WAVE_ITEMS", 50)
        made = list(waves(examples))
    assert list(chain.from_iterable(made)) == examples
    assert all(len(wave) <= 4 for wave in made)
    assert all(len(wave) == 1 or sum(map(sum, lengths([wave]))) <= 50 for wave in made)
