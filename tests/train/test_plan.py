"""Which users form a step, and how they share rows."""

from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.train.dataset import Draw
from trec_cli.train.plan import StepPlan


def steps_of(plan: StepPlan, processes: int = 1) -> list[list[list[Draw]]]:
    """Cut the rows into steps, as the Trainer's accumulation does."""
    rows, size = list(plan), plan.rows_per_step * processes
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=4, max_size=60),
    epochs=st.integers(1, 3),
    users_per_step=st.integers(4, 20),
    max_tokens=st.integers(50, 2000),
    processes=st.integers(1, 4),
)
def test_every_example_is_seen_once_per_epoch_in_rows_that_fit(
    sizes: list[int], epochs: int, users_per_step: int, max_tokens: int, processes: int
) -> None:
    plan = StepPlan(
        sizes,
        epochs=epochs,
        users_per_step=users_per_step,
        max_tokens=max_tokens,
        seed=1,
        processes=processes,
    )
    rows = list(plan)
    seen = [(draw.epoch, draw.index) for draw in chain.from_iterable(rows)]
    everything = {(epoch, index) for epoch in range(epochs) for index in range(len(sizes))}
    assert len(seen) == len(set(seen))
    assert set(seen) <= everything
    assert len(everything) - len(seen) < processes
    assert len(rows) == len(plan)
    assert len(rows) % processes == 0
    assert all(rows)
    steps = steps_of(plan, processes)
    assert len(steps) == plan.steps
    assert all(sum(map(len, step)) == users_per_step for step in steps[:-1])
    for step in steps:
        cannot_be_more = len(step) == sum(map(len, step)) // processes * processes
        fits = all(len(r) == 1 or sum(sizes[d.index] for d in r) <= max_tokens for r in step)
        assert fits or cannot_be_more


def test_rows_are_as_few_as_fit_and_balanced() -> None:
    plan = StepPlan([30, 10, 20, 40], epochs=1, users_per_step=4, max_tokens=60, seed=0)
    assert plan.rows_per_step == 2
    assert sorted(sorted(draw.index for draw in row) for row in plan) == [[0, 2], [1, 3]]


def test_an_example_longer_than_a_row_gets_its_own() -> None:
    plan = StepPlan([500, 10, 10], epochs=1, users_per_step=3, max_tokens=60, seed=0)
    assert sorted(sorted(draw.index for draw in row) for row in plan) == [[0], [1, 2]]


def test_the_plan_depends_on_the_seed_alone() -> None:
    def rows(seed: int) -> list[list[Draw]]:
        return list(StepPlan([5] * 40, epochs=2, users_per_step=8, max_tokens=20, seed=seed))

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)


def test_each_epoch_has_an_order_of_its_own() -> None:
    plan = StepPlan([5] * 30, epochs=2, users_per_step=30, max_tokens=5, seed=0)
    first, second = ([row[0].index for row in step] for step in steps_of(plan))
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second


def test_processes_get_rows_of_similar_length() -> None:
    sizes = [100, 90, 20, 10]
    plan = StepPlan(sizes, epochs=1, users_per_step=4, max_tokens=1000, seed=0, processes=2)
    first, second = (sum(sizes[draw.index] for draw in row) for row in plan)
    assert first == second == 110
