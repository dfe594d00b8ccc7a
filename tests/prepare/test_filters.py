from typing import Any

import pytest

from tests.prepare.helpers import collection, question, settings
from trec_cli.core.errors import InputError
from trec_cli.prepare.arrange import check_unique
from trec_cli.prepare.collection import Question
from trec_cli.prepare.filters import usable_questions
from trec_cli.prepare.report import Report
from trec_cli.prepare.timelines import leave_last_out


def usable(questions: list[Question], known: str, **changes: Any) -> tuple[list[Question], Report]:
    report = Report()
    source = collection(questions, known)
    kept = usable_questions(questions, source.catalogue, settings(**changes), report)
    return list(kept), report


def test_leave_last_out_gives_each_of_the_last_three_items_a_split() -> None:
    timeline = question("u", "abcde", times=[1, 2, 3, 4], timestamp=5, offered=["x"])
    got = [
        (q.example_id, q.split, "".join(q.history), q.positives, q.timestamp, q.offered)
        for q in leave_last_out(timeline)
    ]
    assert got == [
        ("u-test", "test", "abcd", ["e"], 5, ["x"]),
        ("u-valid", "valid", "abc", ["d"], 4, None),
        ("u-train", "train", "ab", ["c"], 3, None),
    ]


def test_a_short_timeline_gives_fewer_examples() -> None:
    assert [q.split for q in leave_last_out(question("u", "ab"))] == ["test", "valid"]
    kept, report = usable([question("u", "ab")], "ab", split="leave-last-out", min_history=1)
    assert [q.split for q in kept] == ["test"]
    assert report.dropped == {"history shorter than 1": 1}


def test_lengths_count_items_before_the_target() -> None:
    questions = [question(f"u{n}", "abcdefgh"[: n + 1]) for n in range(1, 7)]
    kept, report = usable(questions, "abcdefgh", min_history=3, max_history=4, long="drop")
    assert [len(q.history) for q in kept] == [3, 4]
    assert report.dropped == {"history shorter than 3": 2, "history longer than 4": 2}


def test_keep_last_drops_nobody_for_length() -> None:
    kept, report = usable([question("u", "abcdef")], "abcdef", max_history=2, long="keep-last")
    assert len(kept) == 1
    assert not report.dropped


def test_unknown_items_are_left_out_before_lengths_are_looked_at() -> None:
    questions = [
        question("short", "aXYZb"),
        question("target", "abX"),
        question("fine", "aXbc", offered=["X", "d"]),
    ]
    kept, report = usable(questions, "abcd", min_history=2, unknown="drop")
    assert [(q.user_id, q.history, q.offered) for q in kept] == [("fine", ["a", "b"], ["d"])]
    assert report.dropped == {"history shorter than 2": 1, "no target with text": 1}
    shares = {place: (s.part, s.total) for place, s in report.unknown.items()}
    assert shares == {
        "history items": (4, 9),
        "targets": (1, 3),
        "candidates of the source": (1, 2),
    }


def test_an_item_whose_texts_are_blank_counts_as_unknown() -> None:
    source = collection([], "ab")
    assert source.catalogue.ids == {"a", "b"}
    from trec_cli.core.records import Item
    from trec_cli.prepare.collection import catalogue_of

    blank = catalogue_of({"a": Item("a", {"title": " \n", "brand": ""})}, "items")
    assert blank.ids == set()


def test_keep_keeps_unknown_items() -> None:
    kept, report = usable([question("u", "aXbY")], "ab", unknown="keep")
    assert (kept[0].history, kept[0].positives) == (["a", "X", "b"], ["Y"])
    assert report.unknown["targets"].value == 1


def test_fail_names_file_line_user_and_item() -> None:
    questions = [question(f"u{n}", "aX", line=n) for n in range(1, 4)]
    with pytest.raises(InputError) as caught:
        usable(questions, "a", unknown="fail")
    assert len(caught.value.faults) == 3
    assert "timelines, line 2: user 'u2': 1 targets without text in items, for example 'X'" in str(
        caught.value
    )


def test_fail_passes_where_all_have_text() -> None:
    kept, _ = usable([question("u", "ab")], "ab", unknown="fail")
    assert len(kept) == 1


def test_two_examples_of_one_name_are_an_error() -> None:
    with pytest.raises(InputError, match="two examples would be called 'u-1'"):
        check_unique([question("u", "ab", suffix="-1"), question("u-1", "ab")])
