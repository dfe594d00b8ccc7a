"""Examples find their summaries, or the missing ones are named."""

from pathlib import Path

import pytest

from tests.train.world import example, questions
from trec_cli.core.errors import InputError
from trec_cli.core.manifest import Provenance
from trec_cli.core.records import Block, Summary
from trec_cli.prompts.questions import SummarizedExample, fingerprint, with_summaries


def summary_of(user: int, text: str, *ends: int) -> Summary:
    return Summary(
        example_id=f"e{user}",
        user_id=f"u{user}",
        split="train",
        mode="hier",
        summary=text,
        blocks=[Block(level=0, start=0, end=end, summary=text) for end in ends],
        model="m",
    )


def test_examples_find_their_summaries_by_id() -> None:
    summaries = {f"e{n}": summary_of(n, f"text {n}") for n in range(3)}
    found = with_summaries([example(2), example(0)], summaries, "train", file="s.jsonl")
    assert [(q.example.example_id, q.summary) for q in found] == [
        ("e2", "text 2"),
        ("e0", "text 0"),
    ]


def test_missing_summaries_are_counted_and_named() -> None:
    examples = [example(n) for n in range(5)]
    with pytest.raises(InputError, match=r"s\.jsonl: 4 of 5 .* \(e1, e2, e3, …\).*add theirs"):
        with_summaries(examples, {"e0": summary_of(0, "")}, "train", file="s.jsonl")


def _made_with(file: Path, **settings: object) -> Path:
    """Write what ``trec summarize`` says of a file that it has made."""
    file.touch()
    Provenance("summarize", {"limit": None, "splits": [], **settings}, []).write(file)
    return file


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({}, "run trec summarize again; it adds what is missing"),
        ({"limit": 5, "splits": ["train"]}, "run trec summarize again; it adds what is missing"),
        (
            {"limit": 3},
            "made with --limit 3: give --limit 3 here, too, or run the same trec summarize "
            "without --limit and with --overwrite; it keeps finished texts",
        ),
        (
            {"splits": ["valid", "test"]},
            "made with --split valid --split test: run the same trec summarize without --split "
            "and with --overwrite; it keeps finished texts",
        ),
    ],
)
def test_how_missing_summaries_are_made_follows_from_how_the_others_were(
    tmp_path: Path, settings: dict[str, object], fix: str
) -> None:
    file = _made_with(tmp_path / "summaries-hier.jsonl", **settings)
    examples = [example(n) for n in range(5)]
    some = {f"e{n}": summary_of(n, "") for n in range(3)}
    with pytest.raises(InputError) as caught:
        with_summaries(examples, some, "train", file=file)
    assert f"have no summary (e3, e4) ({fix})" in str(caught.value)
    assert len(with_summaries(examples, some, "train", file=file, limit=3)) == 3


def test_summaries_of_items_beyond_the_history_are_refused() -> None:
    """They were made of other examples of the same ids, and may speak of the target."""
    examples = [example(2), example(3)]  # with histories of 2 and 3 items
    fitting = {"e2": summary_of(2, "", 1, 2), "e3": summary_of(3, "", 3)}
    assert len(with_summaries(examples, fitting, "train", file="f")) == 2
    with pytest.raises(InputError, match=r"of 1 of 2 .* more items .* \(e3\).*--overwrite"):
        with_summaries(examples, {**fitting, "e3": summary_of(3, "", 3, 4)}, "train", file="f")


def test_a_summary_tells_as_much_as_its_blocks_and_a_foreign_one_all() -> None:
    examples = [example(3), example(7), example(11), example(15)]  # with 3 items each
    summaries = {
        "e3": summary_of(3, "text", 1, 2, 2),
        "e7": summary_of(7, "text", 3),
        "e11": summary_of(11, "text"),
        "e15": summary_of(15, ""),
    }
    found = with_summaries(examples, summaries, "train", file="f")
    assert [question.told for question in found] == [2, 3, 3, 0]
    assert [q.told for q in with_summaries(examples, None, "train", file="f")] == [0] * 4


def test_the_limit_is_per_split() -> None:
    examples = [example(0, "valid"), *(example(n) for n in range(1, 5)), example(9, "valid")]
    assert len(with_summaries(examples, None, "train", file="f", limit=2)) == 2
    assert len(with_summaries(examples, None, "valid", file="f", limit=2)) == 2
    assert not len(with_summaries(examples, None, "valid", file="f", limit=0))


def test_the_fingerprint_sees_examples_and_summaries() -> None:
    first, second = questions(2), [*questions(1), SummarizedExample(example(1), "other")]
    assert fingerprint(first) == fingerprint(questions(2))
    assert len({fingerprint(first), fingerprint(second), fingerprint(first[::-1])}) == 3
    mine = example(3)
    told = [[SummarizedExample(mine, "text", told=count)] for count in range(4)]
    assert len(set(map(fingerprint, told))) == 4
