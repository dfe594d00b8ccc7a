"""Negatives, summaries and the measure of the training examples."""

import msgspec
import pytest

from tests.train.world import builder, example, questions, training_examples
from trec_cli.core.errors import InputError
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.train.dataset import (
    Draw,
    TrainingExamples,
    check_trainable,
    measure,
)


def chosen(data: TrainingExamples, epoch: int, index: int = 0) -> list[str]:
    candidates, labels = data.candidates(Draw(epoch, index))
    return [c for c, right in zip(candidates, labels, strict=True) if not right]


def test_an_example_has_its_positives_and_so_many_negatives_for_each() -> None:
    data = TrainingExamples(
        questions(3, positives=2, negatives=9), builder(), negatives_per_positive=3, seed=0
    )
    candidates, labels = data.candidates(Draw(0, 1))
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
    assert measure(data).short == 2


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
    assert found.expected == pytest.approx(sum(map(sum, sizes)) / 30, rel=0.01)
    assert found.prompts == 30


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
