import pytest

from tests.prepare.helpers import collection, prepare, question
from trec_cli.prepare.build import Prepared
from trec_cli.prepare.report import Report, example_lines, report_tables
from trec_cli.prepare.settings import Sizes, parse_sizes


@pytest.mark.parametrize(
    ("unknown", "warned", "alarmed"),
    [(0, False, False), (5, False, False), (6, True, False), (50, True, False), (51, False, True)],
)
def test_items_without_text_are_said_loudly(unknown: int, warned: bool, alarmed: bool) -> None:
    report = Report()
    report.unknown["targets"].add(unknown, 100)
    text = f"{unknown}.0% of the targets have no text ({unknown} of 100); see --unknown"
    assert (text in report.warnings()) is warned
    assert (report.alarms() == [text]) is alarmed


def test_means_are_those_worked_out_by_hand() -> None:
    questions = [
        question("u", "abcab", timestamp=1),
        question("v", "abd", timestamp=2),
        question("w", "efgha", timestamp=3),
    ]
    _, prepared = prepare(
        collection(questions, "abcdefgh"), split="time", sizes=Sizes(), number=2, max_history=3
    )
    train = prepared.report.splits["train"].as_dict()
    assert train["examples"] == train["users"] == 3
    assert train["mean_history"] == pytest.approx((3 + 2 + 3) / 3, abs=1e-3)
    assert train["histories_shortened"] == 2
    assert train["mean_candidates"] == 3
    assert train["positives_in_history"] == 1
    assert train["positives_not_in_train_histories"] == 1
    popularity = {"b": 2, "d": 0, "a": 2}
    assert train["mean_popularity_of_positives"] == round(sum(popularity.values()) / 3, 3)
    empty = [w for w in prepared.report.warnings() if "no example is in split" in w]
    assert len(empty) == 2


def test_the_tables_and_the_preview_show_the_counts() -> None:
    examples, prepared = prepare(collection([question("u", "abc")], "abcdef"), number=2)
    kept, splits = report_tables(prepared.report)
    assert kept.row_count
    assert [c.header for c in splits.columns] == ["", "train", "valid", "test"]
    lines = example_lines(examples[0], prepared.catalogue)
    assert "  positive   title: title of c" in lines


def shown(prepared: Prepared) -> dict[str, list[str]]:
    """Return the table of the splits: the cells of each row by its words."""
    *_, table = report_tables(prepared.report)
    first, *others = (list(column.cells) for column in table.columns)
    rows = zip(first, *others, strict=True)
    return {str(words): [str(cell) for cell in cells] for words, *cells in rows}


def test_predictions_alone_have_a_column_and_rows_of_their_own() -> None:
    nothing = parse_sizes("0", "0", "0", predict=True)
    _, prepared = prepare(collection([question("u", "abc")], "abcdef"), predict=True, sizes=nothing)
    *_, table = report_tables(prepared.report)
    assert [c.header for c in table.columns] == ["", "predict"]
    assert shown(prepared) == {
        "examples": ["1"],
        "users": ["1"],
        "mean history, items": ["3.00"],
        "histories shortened": ["0"],
        "mean candidates": ["0.00"],
    }


def test_the_table_says_how_much_of_what_trains_is_later() -> None:
    questions = [
        question(f"u{n}", "abcd", times=[n + k for k in (1.0, 2.0, 3.0)], timestamp=n + 4.0)
        for n in (0, 100)
    ]
    row = "training answers later than the question"
    _, prepared = prepare(collection(questions, "abcdef"), split="leave-last-out", min_history=1)
    assert shown(prepared)[row] == ["", "25.0%", "25.0%"]
    untimed = [question(q.user_id, [*q.history, *q.positives]) for q in questions]
    _, prepared = prepare(collection(untimed, "abcdef"), split="leave-last-out", min_history=1)
    assert shown(prepared)[row] == ["", "unknown", "unknown"]


def test_the_histories_of_one_user_count_once_where_every_item_is_asked_for() -> None:
    """Train asks u for b, c and d after a, ab and abc: a stands in one history, not in three."""
    _, prepared = prepare(
        collection([question("u", "abcdef")], "abcdefgh"),
        split="leave-last-out",
        targets="all",
        min_history=1,
        number=1,
    )
    train = prepared.report.splits["train"].as_dict()
    assert train["mean_popularity_of_positives"] == round((1 + 1 + 0) / 3, 3)
