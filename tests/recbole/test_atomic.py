"""Examples become RecBole's atomic files, and nothing that is asked is given away."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.records import Example, Item, Split
from trec_cli.recbole.atomic import (
    LONGEST,
    Row,
    item_token,
    trained_items,
    training_rows,
    user_token,
    write_atomic_files,
)


def example(
    user: str, split: Split, history: list[str], positives: list[str], name: str | None = None
) -> Example:
    return Example(
        example_id=name or user,
        user_id=user,
        split=split,
        history=history,
        candidates=[*positives, "z"],
        positives=positives,
    )


TRAIN = example("a", "train", ["x", "y"], ["v"])
VALID = example("b", "valid", ["y", "x"], ["w"])
TEST = example("c", "test", ["x"], ["y"])


def test_histories_of_all_and_positives_of_train_alone_are_learnt() -> None:
    assert training_rows([TRAIN, VALID, TEST]) == [
        Row("a", (), "x"),
        Row("a", ("x",), "y"),
        Row("a", ("x", "y"), "v"),
        Row("b", (), "y"),
        Row("b", ("y",), "x"),
        Row("c", (), "x"),
    ]


def test_histories_about_the_future_hold_answers_and_are_not_learnt() -> None:
    future = example("c", "predict", ["x", "y", "w"], [], "c-predict")
    assert training_rows([TEST, future]) == [Row("c", (), "x")]


def test_with_train_on_train_nothing_is_learnt_of_other_users() -> None:
    rows = training_rows([TRAIN, VALID, TEST], "train")
    assert {row.user for row in rows} == {"a"}
    assert trained_items(rows) == {"x", "y", "v"}


def test_one_user_in_all_splits_gives_no_answer_away() -> None:
    leave_last_out = [
        example("u", "train", ["1", "2"], ["3"], "u-train"),
        example("u", "valid", ["1", "2", "3"], ["4"], "u-valid"),
        example("u", "test", ["1", "2", "3", "4"], ["5"], "u-test"),
    ]
    assert [row.item for row in training_rows(leave_last_out)] == ["1", "2", "3"]


def test_an_answer_stays_hidden_where_the_later_history_has_lost_its_oldest_items() -> None:
    cut = [
        example("u", "valid", ["1", "2", "3"], ["4"], "u-valid"),
        example("u", "test", ["3", "4"], ["5"], "u-test"),
    ]
    assert Row("u", ("3",), "4") not in training_rows(cut)


def test_a_later_question_does_not_tell_the_answers_of_an_earlier_one() -> None:
    asked = [
        example("u", "test", ["1", "2"], ["9", "3"], "first"),
        example("u", "test", ["1", "2", "9", "3"], ["7"], "second"),
        example("v", "train", ["1", "2", "3", "x", "4"], ["5"], "later"),
        example("v", "valid", ["1", "2", "3"], ["4"], "earlier"),
        example("w", "test", ["4", "1", "4"], ["4"], "again"),
        example("w", "train", ["4", "1", "4"], ["4"], "same"),
    ]
    rows = training_rows(asked)
    learnt = {user: [row.item for row in rows if row.user == user] for user in "uvw"}
    assert learnt["u"] == ["1", "2"]
    assert learnt["v"] == ["1", "2", "3", "x", "5"]
    assert learnt["w"] == ["4", "1", "4"], "the history of the question has it, too"


def test_an_item_taken_twice_by_a_test_user_is_still_learnt_from_the_history() -> None:
    again = example("u", "test", ["1", "2", "1"], ["2"])
    assert Row("u", ("1",), "2") in training_rows([again])


def test_equal_rows_of_several_examples_stand_once() -> None:
    twice = [example("u", "train", ["1"], [p], p) for p in ("2", "3")]
    assert [row.item for row in training_rows(twice)] == ["1", "2", "3"]


def test_long_histories_keep_their_newest_items() -> None:
    long = example("u", "train", [str(n) for n in range(LONGEST + 5)], ["last"])
    final = training_rows([long])[-1]
    assert (len(final.history), final.history[0]) == (LONGEST, "5")


def test_the_files_are_as_recbole_reads_them(tmp_path: Path) -> None:
    items = {
        "x": Item("x", {"title": 'A "quoted"\ttab\nline', "main color": "NA"}),
        "y": Item("y", {"title": "Zoë 北京"}),
    }
    write_atomic_files(tmp_path, items, [TRAIN, VALID, TEST])
    read = {p.name: p.read_text(encoding="utf-8") for p in tmp_path.rglob("*") if p.is_file()}
    assert read["sequential.train.inter"] == (
        "user_id:token\titem_id_list:token_seq\titem_id:token\n"
        "u_a\ti_x\ti_y\n"
        "u_a\ti_x i_y\ti_v\n"
        "u_b\ti_y\ti_x\n"
    )
    assert read["sequential.test.inter"].splitlines()[1:] == ["u_c\ti_x\ti_y"]
    assert read["general.train.inter"].splitlines() == [
        "user_id:token\titem_id:token",
        *("u_a\ti_x", "u_a\ti_y", "u_a\ti_v", "u_b\ti_y", "u_b\ti_x", "u_c\ti_x"),
    ]
    assert read["general.valid.inter"].splitlines()[1:] == ["u_b\ti_w"]
    assert read["general.item"] == read["sequential.item"]
    assert read["general.item"] == (
        "item_id:token\ttitle:token_seq\tmain_color:token_seq\n"
        "i_x\ta quoted tab line\tna\n"
        "i_y\tzoë 北 京\t\n"
    )


@pytest.mark.parametrize(
    ("item_id", "token"),
    [("B07-1", "i_B07-1"), ("a\tb\nc", "i_a%09b%0Ac"), ("NA", "i_NA"), ("[PAD]", "i_%5BPAD%5D")],
)
def test_ids_are_written_so_that_no_reader_stumbles(item_id: str, token: str) -> None:
    assert item_token(item_id) == token


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_id_comes_back_and_its_token_is_one_plain_word(text: str) -> None:
    for token in (item_token(text), user_token(text)):
        assert unquote(token[2:]) == text
        assert token.isascii()
        assert token.split() == [token]
        assert '"' not in token
