import pytest

from tests.prepare.helpers import collection, prepare, question
from trec_cli.prepare.report import Report, example_lines, report_tables
from trec_cli.prepare.settings import Sizes


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
