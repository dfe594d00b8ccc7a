from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.prepare.helpers import counts, read, write_jsonl
from trec_cli.core.errors import InputError, UsageError

ITEMS = [{"item_id": "a", "title": "A", "brand": "X"}, {"item_id": "b", "title": "B"}]


def write(folder: Path, sequences: list[dict[str, Any]], items: Any = ITEMS) -> Path:
    write_jsonl(folder / "items.jsonl", items)
    write_jsonl(folder / "sequences.jsonl", sequences)
    return folder


def test_the_last_item_is_the_target(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            {"user_id": "u", "items": ["a", "b", "a"], "random_candidates": ["b"]},
            {"user_id": "v", "items": ["b", "a"], "timestamps": [1, 2.5]},
        ],
    )
    items, (one, other) = read(tmp_path)
    assert items["a"].attributes == {"title": "A", "brand": "X"}
    assert (one.history, one.positives, one.offered, one.line) == (["a", "b"], ["a"], ["b"], 1)
    assert (other.times, other.timestamp, other.offered) == ([1], 2.5, None)


def test_attributes_are_chosen_and_ordered(tmp_path: Path) -> None:
    write(tmp_path, [{"user_id": "u", "items": ["a"]}])
    items, _ = read(tmp_path, attributes=("brand", "title"))
    assert [list(i.attributes) for i in items.values()] == [["brand", "title"], ["title"]]
    with pytest.raises(UsageError, match="no attribute price in this collection; there are title"):
        read(tmp_path, attributes=("price",))


def test_a_sequence_without_items_is_counted(tmp_path: Path) -> None:
    write(tmp_path, [{"user_id": "u", "items": []}, {"user_id": "v", "items": ["a"]}])
    assert counts(tmp_path) == {"items": 2, "sequences": 2, "sequences without items": 1}


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ({"user_id": "u", "items": ["b"]}, "line 2: user 'u': stands twice"),
        ({"user_id": "v", "items": "ab"}, "line 2: `items` must be a list"),
        ({"user_id": "v", "items": [1.5]}, "entry 1 of `items` must be a whole number or a text"),
        ({"items": ["a"]}, "line 2: the field `user_id` is missing"),
        ({"user_id": "", "items": ["a"]}, "line 2: `user_id` must not be empty"),
        ({"user_id": "v", "items": ["a"], "timestamps": []}, "has 1 item and 0 timestamps"),
        ({"user_id": "v", "items": ["a", "b"], "timestamps": [2, 1]}, "timestamps go back"),
    ],
)
def test_what_is_wrong_with_a_sequence_is_said(
    tmp_path: Path, sequence: dict[str, Any], message: str
) -> None:
    write(tmp_path, [{"user_id": "u", "items": ["a"]}, sequence])
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert message in str(caught.value)


def test_ids_may_be_whole_numbers(tmp_path: Path) -> None:
    write(
        tmp_path,
        [{"user_id": 7, "items": [1, "2", 1], "random_candidates": [3]}],
        [{"item_id": n, "title": f"T{n}"} for n in (1, 2, 3)],
    )
    items, (only,) = read(tmp_path)
    assert list(items) == ["1", "2", "3"]
    assert (only.user_id, only.history, only.positives) == ("7", ["1", "2"], ["1"])
    assert only.offered == ["3"]
    write(tmp_path, [], [{"item_id": 1, "title": "A"}, {"item_id": "1", "title": "B"}])
    with pytest.raises(InputError, match="item_id '1' stands twice"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (["2023-02-09", "2023-02-10T00:00:00Z"], [1_675_900_800, 1_675_987_200]),
        ([1_588_687_728_923, 1_588_687_729_000], [1_588_687_728.923, 1_588_687_729]),
        ([1_588_687_728, 1_588_687_729], [1_588_687_728, 1_588_687_729]),
    ],
)
def test_times_may_be_dates_or_milliseconds(
    tmp_path: Path, written: list[Any], seconds: list[float]
) -> None:
    write(tmp_path, [{"user_id": "u", "items": ["a", "b"], "timestamps": written}])
    _, (only,) = read(tmp_path)
    assert [*(only.times or []), only.timestamp] == seconds


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["soon", "later"], "user 'u': timestamps: 'soon' is not a time"),
        ([1_588_687_728, 1_588_687_729_000], "is in milliseconds, earlier times are in seconds"),
        ([9_223_372_036_854_776, 9_223_372_036_854_777], "no time between the years 1800 and 2200"),
        (["2023-02-10", "2023-02-09"], "timestamps go back"),
    ],
)
def test_times_that_make_no_sense_are_named(
    tmp_path: Path, written: list[Any], message: str
) -> None:
    write(tmp_path, [{"user_id": "u", "items": ["a", "b"], "timestamps": written}])
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_texts_that_say_there_is_none_are_empty(tmp_path: Path) -> None:
    texts = {"title": "A", "price": "None", "brand": "nan", "note": "None of them"}
    write(tmp_path, [{"user_id": "u", "items": ["a"]}], [{"item_id": "a", **texts}])
    items, _ = read(tmp_path)
    assert items["a"].text() == "title: A; note: None of them"


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    write(tmp_path, [{"user_id": f"u{n}", "items": n} for n in range(30)])
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert len(caught.value.faults) == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b'{"user_id": "u", "items": ["a"]}\n{"user_id": "v", "ite', "cut off in the middle"),
        (b'{\n  "user_id": "u",\n  "items": ["a"]\n}\n', "pretty-printed JSON"),
        (b'{"user_id": "\xe9", "items": ["a"]}\n', "line 1: is not UTF-8 text"),
        (b'{"user_id": "u" "items": ["a"]}\n', "line 1: is not JSON"),
    ],
)
def test_broken_files_are_explained(tmp_path: Path, content: bytes, message: str) -> None:
    write_jsonl(tmp_path / "items.jsonl", ITEMS)
    (tmp_path / "sequences.jsonl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert message in str(caught.value)


def test_line_ends_of_windows_are_fine(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "items.jsonl", ITEMS)
    (tmp_path / "sequences.jsonl").write_bytes(b'{"user_id": "u", "items": ["a", "b"]}\r\n')
    _, (only,) = read(tmp_path)
    assert only.positives == ["b"]


def test_an_item_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, [{"user_id": "u", "items": ["a"]}], [ITEMS[0], ITEMS[0]])
    with pytest.raises(InputError, match=r"items\.jsonl, line 2: item_id 'a' stands twice"):
        read(tmp_path)


def test_the_real_collections_are_read(real_data: Callable[[str], Path]) -> None:
    for name, users, fixed in (("games", 9728, 1207), ("industrial", 3285, 0)):
        items, questions = read(real_data(name))
        assert len(questions) == users
        assert sum(q.offered is not None for q in questions) == fixed
        assert all(i in items for q in questions for i in (*q.history, *q.positives))
