"""Negatives and the measure of the training examples; which users form a step."""

from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samples.tiny_model import build_tokenizer
from tests.train.world import SHORT, builder, example, questions, training_examples
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Example
from trec_cli.models.packing import separate_prompts
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings
from trec_cli.train.dataset import (
    TrainingExamples,
    check_targets,
    check_trainable,
    draw_unknown,
)
from trec_cli.train.measure import measure
from trec_cli.train.plan import Draw, StepPlan
from trec_cli.train.settings import NegativesFrom


def chosen(data: TrainingExamples, epoch: int, index: int = 0) -> list[str]:
    return list(data.last(Draw(epoch, index)).negatives)


def test_an_example_has_its_positives_and_so_many_negatives_for_each() -> None:
    data = TrainingExamples(
        questions(3, positives=2, negatives=9), builder(), negatives_per_positive=3, seed=0
    )
    last = data.last(Draw(0, 1))
    candidates, labels = last.candidates, last.labels
    positives = data.questions[1].example.positives
    assert labels == [True] * 2 + [False] * 6
    assert candidates[:2] == positives
    assert len(set(candidates)) == 8
    assert set(candidates[2:]) <= set(data.questions[1].example.candidates) - set(positives)


def test_negatives_are_drawn_anew_in_each_epoch() -> None:
    data = training_examples(1)
    assert len({tuple(chosen(data, epoch)) for epoch in range(20)}) > 1
    assert chosen(data, 3) == chosen(data, 3)


def test_a_draw_depends_neither_on_other_users_nor_on_the_order_of_candidates() -> None:
    alone = SummarizedExample(example(7), "")
    turned = SummarizedExample(
        msgspec.structs.replace(alone.example, candidates=alone.example.candidates[::-1]), ""
    )
    few = TrainingExamples([turned], builder(), negatives_per_positive=2, seed=5)
    many = TrainingExamples([*questions(5), alone], builder(), negatives_per_positive=2, seed=5)
    assert [chosen(few, e) for e in range(4)] == [chosen(many, e, 5) for e in range(4)]


def test_with_too_few_negatives_all_are_used() -> None:
    data = TrainingExamples(questions(2, negatives=2), builder(), negatives_per_positive=4, seed=0)
    assert len(chosen(data, 0)) == 2
    assert measure(data).total.short == 2


def test_a_row_is_a_tree_whose_branches_end_before_the_answer() -> None:
    data = training_examples(1)
    labelled = data[Draw(0, 0)]
    text = "".join(part.text for part in builder().describe(labelled.tree))
    assert text.endswith("?\nAnswer:")
    assert labelled.labels == [True, False]


def test_the_measure_bounds_every_epoch_and_foretells_the_mean() -> None:
    data = training_examples(10, per_positive=2)
    found = measure(data)
    sizes = [[data[Draw(epoch, i)].tree.size for i in range(10)] for epoch in range(30)]
    assert all(
        size <= bound for row in sizes for size, bound in zip(row, found.largest, strict=True)
    )
    assert found.total.expected == pytest.approx(sum(map(sum, sizes)) / 30, rel=0.01)
    assert found.total.prompts == 30


def every_target(count: int = 6, **more: Any) -> TrainingExamples:
    settings: dict[str, Any] = {"negatives_per_positive": 2, "seed": 0, "targets": "all"}
    return TrainingExamples(questions(count), builder(), **{**settings, **more})


def test_with_all_targets_every_item_of_the_history_is_asked_for_after_those_before_it() -> None:
    data = every_target()
    history = data.questions[3].example.history
    asked = list(data.every(Draw(0, 3)))
    assert len(history) == 3
    assert [each.count for each in asked] == [3, 2, 1]
    assert [each.positives for each in asked[1:]] == [[history[2]], [history[1]]]
    assert asked[0].positives == data.questions[3].example.positives
    labelled = data[Draw(0, 3)]
    assert labelled.labels == [True, False, False] * 3
    assert labelled.groups == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_the_end_of_the_history_has_the_negatives_that_it_has_alone() -> None:
    alone, data = training_examples(6, per_positive=2), every_target()
    assert [alone.last(Draw(4, n)) for n in range(6)] == [data.last(Draw(4, n)) for n in range(6)]


def of_one_user(
    mine: Example, *, negatives: int, source: NegativesFrom = "catalogue"
) -> TrainingExamples:
    return TrainingExamples(
        [SummarizedExample(mine, "")],
        builder(),
        negatives_per_positive=negatives,
        seed=0,
        targets="all",
        negatives_from=source,
    )


@pytest.mark.parametrize(("source", "count"), [("candidates", 3), ("catalogue", 20)])
def test_no_item_of_the_users_history_is_a_negative_of_it(
    source: NegativesFrom, count: int
) -> None:
    mine = example(7)
    seen = msgspec.structs.replace(mine, history=[*mine.history, *sorted(mine.candidates)[-2:]])
    assert not set(seen.history) & set(seen.positives)
    data = of_one_user(seen, negatives=20, source=source)
    asked = list(data.every(Draw(1, 0)))[1:]
    assert [each.count for each in asked] == [4, 3], "the prompt shows three items"
    for each in asked:
        assert not {*seen.history, *seen.positives}.intersection(each.negatives)
        assert set(each.negatives) <= set(builder().items)
        assert len(set(each.negatives)) == len(each.negatives) == count


def test_negatives_of_each_item_of_the_history_are_drawn_by_themselves() -> None:
    data = every_target(negatives_from="catalogue")
    asked = [list(data.every(Draw(epoch, 3))) for epoch in range(3)]
    drawn = {tuple(each.negatives) for questions in asked for each in questions}
    assert len(drawn) == 9
    shorter = every_target(negatives_from="catalogue", min_history=2)
    assert list(shorter.every(Draw(0, 3))) == asked[0][:2]


def long_history(
    length: int, recent: int, told: int = 0, room: int = 1024, **more: Any
) -> TrainingExamples:
    """Give one user with a history of so many items, of which the prompt shows some."""
    mine = msgspec.structs.replace(example(3), history=[f"i{n}" for n in range(length)])
    make = PromptBuilder(
        build_tokenizer(chat=False),
        builder().items,
        PromptSettings(recent=recent, max_length=room, candidate_tokens=128),
        template=SHORT,
    )
    return TrainingExamples(
        [SummarizedExample(mine, "old things" if told else "", told=told)],
        make,
        negatives_per_positive=1,
        seed=0,
        targets="all",
        negatives_from="catalogue",
        **more,
    )


def counts(data: TrainingExamples, epoch: int) -> list[int]:
    return [each.count for each in data.every(Draw(epoch, 0))]


def test_only_items_that_the_prompt_shows_are_asked_for() -> None:
    data = long_history(12, recent=4)
    assert counts(data, 0) == [12, 11, 10, 9]
    assert len(data[Draw(0, 0)].labels) == 2 * 4
    assert counts(long_history(12, recent=0), 0) == [12]


@pytest.mark.parametrize(
    ("recent", "told", "expected"),
    [
        (4, 8, [12, 11, 10, 9]),
        (4, 10, [12, 11, 10]),
        (4, 12, [12]),
        (4, 3, [12, 11, 10, 9]),
        (20, 8, [12, 11, 10, 9, 8]),
    ],
)
def test_nothing_is_asked_for_that_the_summary_has_told(
    recent: int, told: int, expected: list[int]
) -> None:
    assert counts(long_history(12, recent=recent, told=told), 0) == expected


def test_targets_are_drawn_among_the_items_that_the_prompt_has_room_for() -> None:
    """Of 40 items some 15 fit."""
    data = long_history(40, recent=40, max_targets=6, room=128 + 200)
    shown = data.builder.shown(data.questions[0].example.history, "")
    assert 6 < shown < 30
    for epoch in range(5):
        assert len(counts(data, epoch)) == 6
        assert len(data[Draw(epoch, 0)].labels) == 2 * 6, "each has a place in the tree"


def test_an_answer_that_a_retrieval_missed_is_no_negative() -> None:
    mine = msgspec.structs.replace(example(3), missed=["i59"])
    data = of_one_user(mine, negatives=100)
    for each in data.every(Draw(0, 0)):
        assert len(each.negatives) == 60 - len({*mine.history, *mine.positives}) - 1
        assert "i59" not in each.negatives


def test_summaries_of_whole_histories_leave_nothing_to_learn_but_the_last_items() -> None:
    check_targets(long_history(12, recent=4, told=11).questions, "s.jsonl")
    with pytest.raises(UsageError, match=r"every summary in s.jsonl .* --skip-recent N"):
        check_targets(long_history(12, recent=4, told=12).questions, "s.jsonl")
    check_targets([SummarizedExample(example(0), "")], None)  # nobody has a history: no fault


def test_of_many_items_some_are_drawn_in_each_epoch_and_always_the_last() -> None:
    data = long_history(20, recent=50, max_targets=6)
    drawn = [counts(data, epoch) for epoch in range(30)]
    assert drawn[0] == counts(long_history(20, recent=50, max_targets=6), 0)
    for each in drawn:
        assert each[0] == 20
        assert each == sorted(set(each), reverse=True)
        assert len(each) == 6
    assert {count for each in drawn for count in each} == {*range(1, 21)}
    assert counts(long_history(20, recent=50, max_targets=1), 0) == [20]
    assert counts(long_history(20, recent=50, max_targets=20), 0) == [*range(20, 0, -1)]


def test_a_catalogue_with_hardly_an_unknown_item_gives_what_it_has() -> None:
    random = np.random.default_rng(0)
    assert draw_unknown(random, ["a", "b", "c", "d"], 3, {"a", "c"}) == ["b", "d"]
    items = [f"{n:03}" for n in range(200)]
    drawn = draw_unknown(random, items, 50, set(items[:90]))
    assert len(set(drawn)) == 50
    assert drawn == sorted(drawn)
    assert min(drawn) >= "090"


@pytest.mark.parametrize("more", [{}, {"negatives_from": "candidates"}, {"targets": "last"}])
def test_the_measure_of_drawn_trees_is_exact(more: dict[str, Any]) -> None:
    data = every_target(**{"negatives_from": "catalogue", **more})
    found = measure(data, epochs=3)
    sizes = [[data[Draw(epoch, n)].tree.size for n in range(6)] for epoch in range(3)]
    assert list(found.largest) == [max(column) for column in zip(*sizes, strict=True)]
    assert found.total.expected == pytest.approx(sum(map(sum, sizes)) / 3)
    labels = [data[Draw(0, n)].labels for n in range(6)]
    assert found.total.prompts == sum(map(len, labels))
    assert found.total.targets == sum(map(sum, labels))


def test_a_prompt_begins_with_the_oldest_item_that_the_whole_history_shows() -> None:
    data = long_history(12, recent=4)
    history = data.questions[0].example.history
    labelled, expected = data[Draw(0, 0)], []
    for each in data.every(Draw(0, 0)):
        tree = data.builder.tree(history[8 : each.count], "", each.candidates)
        expected += list(separate_prompts(tree))
    assert list(separate_prompts(labelled.tree)) == expected


def test_every_prompt_of_a_history_is_the_one_that_scoring_builds() -> None:
    data = every_target()
    for index in range(6):
        question, labelled = data.questions[index], data[Draw(0, index)]
        expected = []
        for each in data.every(Draw(0, index)):
            history = question.example.history[: each.count]
            tree = builder().tree(history, question.summary, each.candidates)
            expected += list(separate_prompts(tree))
        assert list(separate_prompts(labelled.tree)) == expected


def test_no_training_examples_is_an_error() -> None:
    with pytest.raises(InputError, match="no examples of split train"):
        check_trainable([], "examples.jsonl")


def test_examples_without_a_negative_are_named() -> None:
    bad = [SummarizedExample(example(n, negatives=0), "") for n in (3, 4)]
    with pytest.raises(InputError) as caught:
        check_trainable([*questions(2), *bad], "examples.jsonl")
    assert [fault.problem.split(":")[0] for fault in caught.value.faults] == [
        "example 'e3'",
        "example 'e4'",
    ]
    assert "--negatives" in str(caught.value)


def steps_of(plan: StepPlan, processes: int = 1) -> list[list[list[Draw]]]:
    """Cut the rows into steps, as the Trainer's accumulation does."""
    rows, size = list(plan), plan.rows_per_step * processes
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@settings(max_examples=60)
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
