import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.prepare.helpers import counts, read, write_jsonl
from trec_cli.core.errors import InputError, UsageError


def review(user: str, item: str, time: int) -> dict[str, Any]:
    return {
        "overall": 5.0,
        "verified": True,
        "reviewTime": "01 1, 2018",
        "reviewerID": user,
        "asin": item,
        "reviewerName": "Jane Doe",
        "reviewText": "text of the review",
        "unixReviewTime": time,
    }


def review_2023(user: str, item: str, time: int) -> dict[str, Any]:
    return {
        "rating": 5.0,
        "title": "title of the review",
        "text": "text of the review",
        "asin": f"{item}-red",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time,
    }


META: list[dict[str, Any]] = [
    {
        "category": ["Video Games", "PC", "</span></span>"],
        "description": ["<p>First &amp; best.</p>", "Second part."],
        "title": "Space &quot;Quest&quot;",
        "brand": "Sierra",
        "feature": ["one", "two"],
        "price": "$9.99",
        "asin": "A",
        "also_buy": ["B"],
    },
    {"asin": "B", "title": "Plain", "price": ".a-box-inner{background-color:#fff}"},
    {"asin": "Z", "title": "Nobody reviewed it"},
    {"asin": "A", "title": "Repeated line"},
]


def write(folder: Path, reviews: list[dict[str, Any]], meta: list[dict[str, Any]] = META) -> Path:
    write_jsonl(folder / "Games_5.json", reviews)
    write_jsonl(folder / "meta_Games.json", meta)
    return folder


def test_texts_are_made_plain_and_only_reviewed_items_kept(tmp_path: Path) -> None:
    items, _ = read(write(tmp_path, [review("u", "A", 1), review("u", "B", 2)]))
    assert list(items) == ["A", "B"]
    assert items["A"].text() == (
        'title: Space "Quest"; brand: Sierra; category: Video Games, PC,; price: $9.99; '
        "description: First & best. Second part."
    )
    assert items["B"].text() == "title: Plain"


def test_a_timeline_is_ordered_by_time_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    reviews = [
        review("u", "C", 5),
        review("v", "A", 1),
        review("u", "B", 3),
        review("u", "A", 3),
        review("u", "D", 1),
        review("v", "B", 1),
    ]
    _, (u, v) = read(write(tmp_path, reviews))
    assert (u.user_id, u.history, u.positives) == ("u", ["D", "B", "A"], ["C"])
    assert (u.times, u.timestamp) == ([1, 3, 3], 5)
    assert (v.user_id, v.history, v.positives) == ("v", ["A"], ["B"])


def test_exact_repeats_are_dropped_and_counted_but_a_second_purchase_is_kept(
    tmp_path: Path,
) -> None:
    reviews = [
        review("u", "A", 1),
        review("u", "B", 1),
        review("u", "A", 1),
        review("u", "A", 9),
        review("v", "A", 1),
    ]
    write(tmp_path, reviews)
    _, (u, _) = read(tmp_path)
    assert [*u.history, *u.positives] == ["A", "B", "A"]
    assert counts(tmp_path) == {
        "reviews": 5,
        "users": 2,
        "items with reviews": 2,
        "metadata of items without reviews": 1,
        "metadata lines of an item already read": 1,
        "items whose rows differ": 1,
        "exact repeats of a review": 1,
    }


def test_ratings_follow_the_timeline_and_the_highest_of_a_repeat_counts(tmp_path: Path) -> None:
    low = {**review("u", "A", 1), "overall": 2.0}
    without = review("u", "B", 0)
    del without["overall"]
    for reviews in ([low, review("u", "A", 1), without], [without, review("u", "A", 1), low]):
        _, (u,) = read(write(tmp_path, reviews))
        assert (u.history, u.positives, u.ratings) == (["B"], ["A"], [None, 5.0])


def test_2023_has_other_names_and_milliseconds(tmp_path: Path) -> None:
    reviews = [review_2023("u", "A", 2_000_500), review_2023("u", "B", 1_000_000)]
    meta: list[dict[str, Any]] = [
        {
            "main_category": "Video Games",
            "title": "Space Quest",
            "average_rating": 4.5,
            "features": ["<b>Fast</b>", "Loud"],
            "description": ["One.", "Two."],
            "price": 9.5,
            "store": "Sierra",
            "categories": ["Games", "PC"],
            "details": {"Color": "red", "Size": None},
            "parent_asin": "A",
        },
        {"parent_asin": "B", "title": "Other", "price": None, "description": []},
    ]
    write_jsonl(tmp_path / "Games.jsonl", reviews)
    write_jsonl(tmp_path / "meta_Games.jsonl", meta)
    items, (u,) = read(tmp_path)
    assert (u.history, u.positives, u.times, u.timestamp) == (["B"], ["A"], [1000], 2000.5)
    assert items["A"].text() == (
        "title: Space Quest; main_category: Video Games; store: Sierra; categories: Games, PC; "
        "price: 9.5; features: Fast Loud; description: One. Two."
    )
    assert items["B"].text() == "title: Other"
    items, _ = read(tmp_path, attributes=("details",))
    assert items["A"].attributes == {"details": "Color red"}
    with pytest.raises(UsageError, match="no attribute brand in this collection"):
        read(tmp_path, attributes=("brand",))


def test_2014_writes_metadata_as_python_does(tmp_path: Path) -> None:
    write(tmp_path, [review("u", "A", 1), review("u", "B", 2)])
    lines = [
        str({"asin": "A", "title": 'It\'s "here"', "categories": [["Games", "PC"]]}),
        str({"asin": "Z", "title": "Nobody"}),
    ]
    (tmp_path / "meta_Games.json").write_text("\n".join(lines) + "\n")
    items, _ = read(tmp_path)
    assert items["A"].text() == 'title: It\'s "here"; categories: Games, PC'
    assert list(items) == ["A"]
    (tmp_path / "meta_Games.json").write_text("{'asin': open('x')}\n{'asin'\n{'title': 'x'}\n")
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert [fault.line for fault in caught.value.faults] == [1, 2, 3]


def test_no_name_of_a_reviewer_and_no_text_of_a_review_is_read(tmp_path: Path) -> None:
    items, questions = read(write(tmp_path, [review("u", "A", 1)]))
    assert "Jane" not in repr((items, questions))
    assert "text of the review" not in repr((items, questions))


def test_gz_files_with_the_old_names_are_read(tmp_path: Path) -> None:
    for name, records in (("reviews_Games_5", [review("u", "A", 1)]), ("meta_Games", META)):
        lines = "".join(json.dumps(r) + "\n" for r in records)
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(lines.encode()))
    _, (only,) = read(tmp_path / "reviews_Games_5.json.gz")
    assert only.positives == ["A"]


def test_a_truncated_or_corrupt_gz_is_explained(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "meta_Games.json", META)
    lines = "".join(json.dumps(review(f"u{n}", "A", n * 7919)) + "\n" for n in range(500))
    packed = gzip.compress(lines.encode())
    path = tmp_path / "Games_5.json.gz"
    for damaged in (packed[: len(packed) // 2], packed[:10] + b"\xff" * 50 + packed[60:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="compressed file is damaged"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"asin": None}, "`asin` must be a text, not null"),
        ({"unixReviewTime": "soon"}, "`unixReviewTime` must be a whole number, not a text"),
        ({"reviewerID": ""}, "`reviewerID` must not be empty"),
    ],
)
def test_wrong_fields_are_named_with_their_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(tmp_path, [review("u", "A", 1), {**review("u", "A", 2), **change}])
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert f"Games_5.json, line 2: {message}" in str(caught.value)


@pytest.mark.parametrize("time", [9_223_372_036_854_776, 9_223_372_036_854_775_807, -(10**13)])
def test_a_time_that_cannot_be_is_named(tmp_path: Path, time: int) -> None:
    write(tmp_path, [review("u", "A", 1), review("u", "B", time)])
    with pytest.raises(InputError, match=r"line 2: the time: .* is no time between the years 1800"):
        read(tmp_path)
    (tmp_path / "Games_5.json").unlink()
    write_jsonl(tmp_path / "Games.jsonl", [review_2023("u", "A", 1), review_2023("u", "B", time)])
    write_jsonl(tmp_path / "meta_Games.jsonl", [{"parent_asin": "A", "title": "A"}])
    (tmp_path / "meta_Games.json").unlink()
    if abs(time) > 10**13:
        with pytest.raises(
            InputError, match=r"line 2: the time: .* is no time between the years 1800"
        ):
            read(tmp_path)


def test_times_in_another_unit_than_the_usual_are_recognised(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "meta_Games.jsonl", [{"parent_asin": "A", "title": "A"}])
    times = [1_588_687_728, 1_588_687_729]
    write_jsonl(tmp_path / "Games.jsonl", [review_2023("u", "A", time) for time in times])
    _, (only,) = read(tmp_path)
    assert [*(only.times or []), only.timestamp] == times
    mixed = [review_2023("u", "A", time) for time in (times[0], times[1] * 1000)]
    write_jsonl(tmp_path / "Games.jsonl", mixed)
    with pytest.raises(InputError, match="line 2: the time: 1588687729000 is in milliseconds"):
        read(tmp_path)


def test_reviews_whose_time_was_never_set_are_left_out_and_counted(tmp_path: Path) -> None:
    reviews = [review_2023("u", "A", 1), review_2023("u", "B", -62_135_596_800_000)]
    write_jsonl(tmp_path / "Games.jsonl", reviews)
    write_jsonl(tmp_path / "meta_Games.jsonl", [{"parent_asin": "A", "title": "A"}])
    _, (only,) = read(tmp_path)
    assert (only.history, only.positives) == ([], ["A"])
    assert counts(tmp_path)["left out: no time was set"] == 1


def test_prices_of_none_and_details_in_json_are_made_plain(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "Games.jsonl", [review_2023("u", "A", 1)])
    details = '{"Item Form": "Bar", "UPC": "1000"}'
    meta = {"parent_asin": "A", "title": "Soap", "price": "None", "details": details}
    write_jsonl(tmp_path / "meta_Games.jsonl", [meta])
    items, _ = read(tmp_path, attributes=("title", "price", "details"))
    assert items["A"].text() == "title: Soap; details: Item Form Bar, UPC 1000"


def test_of_lines_that_differ_the_longest_counts_wherever_it_stands(tmp_path: Path) -> None:
    meta = [{"asin": "A", "title": "Short"}, {"asin": "A", "title": "Longer"}, {"asin": "A"}]
    for lines in (meta, meta[::-1]):
        items, _ = read(write(tmp_path, [review("u", "A", 1)], lines))
        assert items["A"].title == "Longer"


def test_metadata_nested_without_end_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, [review("u", "A", 1)])
    deep = "[" * 900 + "]" * 900
    for line in (f'{{"asin": "A", "title": {deep}}}', f"{{'asin': 'A', 'title': {deep}}}"):
        (tmp_path / "meta_Games.json").write_text(line + "\n")
        with pytest.raises(InputError, match="line 1"):
            read(tmp_path)


def test_files_that_are_no_reviews_are_explained(tmp_path: Path) -> None:
    write(tmp_path, [{"some": 1, "thing": 2}])
    with pytest.raises(InputError, match="is not a review of Amazon: it has some, thing"):
        read(tmp_path)
    (tmp_path / "Games_5.json").write_text("")
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path)
