"""Questions about the future: the whole history, no answer, no candidates before retrieval."""

from tests.prepare.helpers import collection, prepare, question
from trec_cli.core.records import Example
from trec_cli.prepare.collection import Question, ReadOptions
from trec_cli.prepare.settings import parse_sizes

IDS = "abcdefgh"
NOTHING = parse_sizes("0", "0", "0", predict=True)


def future(examples: list[Example]) -> dict[str, Example]:
    return {e.user_id: e for e in examples if e.split == "predict"}


def test_the_history_holds_the_newest_item_and_nothing_is_right() -> None:
    examples, _ = prepare(
        collection([question("u", "abc", timestamp=3)], IDS), predict=True, sizes=NOTHING
    )
    (asked,) = examples
    assert (asked.example_id, asked.split) == ("u-predict", "predict")
    assert (asked.history, asked.candidates, asked.positives) == (["a", "b", "c"], [], [])
    assert asked.timestamp is None


def test_questions_with_an_answer_stay_what_they_are() -> None:
    users = [question(f"u{n}", "abcde"[: n % 4 + 2]) for n in range(30)]
    alone, _ = prepare(collection(users, IDS))
    beside, prepared = prepare(collection(users, IDS), predict=True)
    assert [e for e in beside if e.split != "predict"] == alone
    assert len(future(beside)) == 30
    assert prepared.report.as_dict()["splits"]["predict"]["users"] == 30


def test_the_cap_keeps_the_last_items_even_where_long_histories_are_dropped() -> None:
    examples, prepared = prepare(
        collection([question("u", "abcdef")], IDS), predict=True, max_history=3, long="drop"
    )
    assert [e.history for e in examples] == [["d", "e", "f"]]
    assert prepared.report.dropped == {"history longer than 3": 1}


def test_a_history_may_be_long_enough_for_tomorrow_alone() -> None:
    examples, prepared = prepare(
        collection([question("one", "a"), question("two", "ab")], IDS), predict=True, min_history=2
    )
    assert set(future(examples)) == {"two"}
    assert len(examples) == 1
    assert prepared.report.dropped == {
        "history shorter than 2": 2,
        "predict: history shorter than 2": 1,
    }


def test_items_without_text_are_left_out() -> None:
    examples, _ = prepare(
        collection([question("u", "aXbY")], IDS), predict=True, sizes=NOTHING, unknown="drop"
    )
    assert examples[0].history == ["a", "b"]


def test_several_impressions_of_a_user_give_one_question_with_all_clicks() -> None:
    def impression(number: int, time: int, clicked: str) -> Question:
        return Question(
            "u", list("ab"), list(clicked), timestamp=time, offered=["h"], suffix=f"-{number}"
        )

    examples, _ = prepare(
        collection(
            [impression(1, 20, "e"), impression(2, 30, "fg"), impression(3, 10, "dea")],
            IDS,
            "impression",
        ),
        predict=True,
        read=ReadOptions(None, target="impression", per_impression=True),
    )
    assert future(examples)["u"].history == list("abdefg")


def test_leave_last_out_learns_from_the_past_and_asks_of_the_future() -> None:
    examples, _ = prepare(
        collection([question("u", "abcd")], IDS), predict=True, split="leave-last-out"
    )
    assert [(e.example_id, "".join(e.history)) for e in examples] == [
        ("u-test", "abc"),
        ("u-valid", "ab"),
        ("u-train", "a"),
        ("u-predict", "abcd"),
    ]


def test_numbers_of_users_bound_the_answered_questions_alone() -> None:
    users = [question(f"u{n}", "abc", timestamp=n) for n in range(20)]
    for split in ("users", "time"):
        examples, _ = prepare(
            collection(users, IDS), predict=True, split=split, sizes=parse_sizes("4", "2", "0")
        )
        assert len(future(examples)) == 20
        assert len(examples) == 26
    few, _ = prepare(collection(users, IDS), predict=True, max_users=5)
    assert len(future(few)) == 5


def test_an_empty_split_that_was_asked_for_is_no_reason_to_warn() -> None:
    users = [question(f"u{n}", "abc") for n in range(20)]
    _, prepared = prepare(
        collection(users, IDS), predict=True, sizes=parse_sizes("0.5", "0.5", "0")
    )
    assert not any("no example" in warning for warning in prepared.report.warnings())
