"""What a model does not know is kept from it, and gets the lowest score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.records import Example
from trec_cli.recbole.questions import RecboleQuestion, Unknown, ask
from trec_cli.recbole.worker import reciprocal_rank


def example(history: list[str], candidates: list[str], positive: str) -> Example:
    return Example(
        example_id="e\t1",
        user_id="ü",
        split="valid",
        history=history,
        candidates=candidates,
        positives=[positive],
    )


ASKED = example(["a", "cold", "b"], ["c1", "w1", "w2", "c2"], "w2")
QUESTION = RecboleQuestion.of(ASKED, {"a", "b", "w1", "w2"})


def test_a_question_holds_what_the_model_knows_and_counts_the_rest() -> None:
    assert QUESTION.as_dict() == {
        "example_id": "e\t1",
        "split": "valid",
        "user": "u_%C3%BC",
        "history": ["i_a", "i_b"],
        "candidates": ["i_w1", "i_w2"],
        "positives": [1],
        "cold": 2,
        "cold_positives": 0,
    }


def test_what_is_right_is_not_told_of_test() -> None:
    import msgspec

    test = msgspec.structs.replace(ASKED, split="test")
    told = RecboleQuestion.of(test, {"w1"}).as_dict()
    assert told["positives"] == []
    assert told["cold_positives"] == 0


def test_cold_candidates_tie_below_all_others_in_the_order_of_the_example() -> None:
    assert QUESTION.scores([-2.5, 3.0]) == [-3.5, -2.5, 3.0, -3.5]


def test_where_the_model_can_say_nothing_all_candidates_tie() -> None:
    assert QUESTION.scores(None) == [0.0] * 4
    assert RecboleQuestion.of(ASKED, set()).scores([]) == [0.0] * 4


def test_what_the_model_cannot_score_ties_with_the_cold_and_is_counted_with_them() -> None:
    assert QUESTION.scores([4.0, None]) == [3.0, 4.0, 3.0, 3.0]
    assert QUESTION.scores([None, None]) == [0.0] * 4
    assert Unknown.count([QUESTION], [[4.0, None]]) == Unknown(4, 1, 3, 1, 0)


@pytest.mark.parametrize(
    ("answer", "positives", "cold_positives", "rank"),
    [
        ([3.0, 1.0, 2.0], [2], 0, 2),
        ([2.0, 2.0, 1.0], [1], 0, 1.5),
        ([3.0, 1.0], [0, 1], 0, 1),
        ([3.0, None, 1.0], [1], 0, 2 + (1 + 3) / 2),
        ([3.0, None, 1.0], [], 1, 2 + (1 + 3) / 2),
        ([3.0, None, 1.0], [2], 1, 2),
        (None, [0], 0, (1 + 5) / 2),
    ],
)
def test_the_worker_ranks_as_the_scores_will(
    answer: list[float | None] | None, positives: list[int], cold_positives: int, rank: float
) -> None:
    """Three or so known candidates and two cold ones."""
    asked = {
        "candidates": ["x"] * (len(answer) if answer else 3),
        "cold": 2,
        "positives": positives,
        "cold_positives": cold_positives,
    }
    assert reciprocal_rank(asked, answer) == pytest.approx(1 / rank)


def test_a_wrong_number_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        QUESTION.scores([1.0])


def test_cold_items_are_counted_and_told() -> None:
    questions = list(ask([ASKED, example([], ["x", "w1"], "x")], {"w1", "w2", "a", "b"}))
    unknown = Unknown.count(questions, [[0.5, 0.1], None])
    assert unknown == Unknown(6, 2, 3, 1, 1)
    assert "3 of 6 candidates, 1 of 2 positives; 1 examples" in str(unknown)


@given(
    st.lists(st.integers(0, 30).map(str), min_size=1, unique=True),
    st.sets(st.integers(0, 30).map(str)),
    st.data(),
)
def test_warm_scores_are_kept_and_cold_ones_are_lower(
    candidates: list[str], trained: set[str], data: st.DataObject
) -> None:
    question = RecboleQuestion.of(example([], candidates, candidates[0]), trained)
    number = st.floats(-1e6, 1e6)
    answers = data.draw(st.lists(number, min_size=len(question.warm), max_size=len(question.warm)))
    scores = dict(zip(candidates, question.scores(answers), strict=True))
    assert [scores[item] for item in question.warm] == answers
    cold = {scores[item] for item in candidates if item not in trained}
    assert len(cold) <= 1
    assert all(low < answer for low in cold for answer in answers)
