from pathlib import Path

import pytest

from trec_cli.core.errors import InputError
from trec_cli.prepare.archive import Source
from trec_cli.prepare.detect import FORMATS, detect


def found(folder: Path, *names: str, source: str = "", format_: str = "auto") -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with Source(folder / source) as files:
        result = detect(files, format_)
    return f"{result.format.name}: {' '.join(p.name for p in result.inputs)}"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["items.jsonl", "sequences.jsonl"], "jsonl: items.jsonl sequences.jsonl"),
        (["news.tsv", "behaviors.tsv"], "mind: news.tsv behaviors.tsv"),
        (
            ["products_train.csv", "sessions_train.csv", "sessions_test_task1.csv"],
            "amazon-m2: products_train.csv sessions_train.csv",
        ),
        (
            ["reviews_Games_5.json.gz", "meta_Games.json.gz"],
            "amazon-reviews: reviews_Games_5.json.gz meta_Games.json.gz",
        ),
        (["Games.jsonl", "meta_Games.jsonl"], "amazon-reviews: Games.jsonl meta_Games.jsonl"),
    ],
)
def test_each_format_is_told_by_its_names(tmp_path: Path, names: list[str], expected: str) -> None:
    assert found(tmp_path, *names) == expected


def test_train_comes_before_dev(tmp_path: Path) -> None:
    parts = ("a_dev", "b_train")
    names = [f"{part}/{name}.tsv" for part in parts for name in ("news", "behaviors")]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with Source(tmp_path) as files:
        behaviors = detect(files).files["behaviors"]
    assert [m.name for m in behaviors] == ["b_train/behaviors.tsv", "a_dev/behaviors.tsv"]


def test_nothing_known_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        found(tmp_path, "items.jsonl", "notes.txt")
    for format_ in FORMATS.values():
        assert format_.looks_for in str(caught.value)
    assert "there is items.jsonl (empty), notes.txt (empty)" in str(caught.value)


def test_two_formats_must_be_chosen_from(tmp_path: Path) -> None:
    names = ["items.jsonl", "sequences.jsonl", "news.tsv", "behaviors.tsv"]
    with pytest.raises(InputError, match="several formats: mind and jsonl"):
        found(tmp_path, *names)
    assert found(tmp_path, *names, format_="mind").startswith("mind")
    assert found(tmp_path, *names, source="sequences.jsonl").startswith("jsonl")


def test_several_categories_must_be_chosen_from(tmp_path: Path) -> None:
    names = ["A.jsonl", "meta_A.jsonl", "B.jsonl", "meta_B.jsonl"]
    with pytest.raises(InputError, match="several review files"):
        found(tmp_path, *names)
    assert found(tmp_path, *names, source="B.jsonl") == "amazon-reviews: B.jsonl meta_B.jsonl"
    assert found(tmp_path, *names, source="meta_A.jsonl") == "amazon-reviews: A.jsonl meta_A.jsonl"


def test_a_named_file_that_is_part_of_nothing_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no collection that is known"):
        found(tmp_path, "items.jsonl", "sequences.jsonl", "README.md", source="README.md")


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").touch()
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    with Source(tmp_path) as source, pytest.raises(InputError) as caught:
        detect(source)
    there = "there is clicks.csv (empty); items.csv with columns item_id, title"
    assert there in str(caught.value)
