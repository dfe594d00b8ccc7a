"""Files of a stage: found in RUN, named one by one, and summaries of any mode."""

from pathlib import Path

import pytest

from trec_cli.core.errors import UsageError
from trec_cli.core.files import check_named, find_summaries, resolve
from trec_cli.core.runs import RunFolder


def test_a_file_is_the_one_given_or_the_one_in_run() -> None:
    assert resolve(Path("x"), Path("run"), "items") == Path("x")
    assert resolve(None, Path("run"), "summaries", "hier") == Path("run/summaries-hier.jsonl")


@pytest.mark.parametrize(
    ("name", "option", "told"),
    [
        ("items", "", "--items"),
        ("summaries", "", "--out"),
        ("adapter", "", "--out"),
        ("summaries", "--summaries", "--summaries"),
    ],
)
def test_a_file_that_nothing_names_is_asked_for_by_its_option(
    name: str, option: str, told: str
) -> None:
    with pytest.raises(UsageError, match=f"^give the RUN folder, or name files with {told}$"):
        resolve(None, None, name, "hier", option=option)


def test_all_files_that_nothing_names_are_asked_for_at_once(tmp_path: Path) -> None:
    files = {"--items": None, "--examples": Path("e.jsonl"), "--out": None}
    check_named(tmp_path, files)
    with pytest.raises(UsageError, match=r"^give the RUN folder, .* with --items and --out$"):
        check_named(None, files)
    file = tmp_path / "examples.jsonl"
    file.touch()
    with pytest.raises(UsageError, match=r"examples\.jsonl is a file: give the RUN folder, or"):
        check_named(file, files)


@pytest.mark.parametrize("mode", ["hier", "recurrent", "attention"])
def test_summaries_of_trec_have_their_name_in_run(mode: str) -> None:
    assert find_summaries(mode, None, Path("run")) == Path(f"run/summaries-{mode}.jsonl")


def test_summaries_made_elsewhere_may_have_any_mode(tmp_path: Path) -> None:
    assert find_summaries("mine", Path("x.jsonl"), None) == Path("x.jsonl")
    (tmp_path / "summaries-mine.jsonl").touch()
    assert find_summaries("mine", None, tmp_path) == tmp_path / "summaries-mine.jsonl"


def test_mode_none_has_no_summaries_and_refuses_some() -> None:
    assert find_summaries("none", None, Path("run")) is None
    with pytest.raises(UsageError, match="--mode none takes no summaries"):
        find_summaries("none", Path("x.jsonl"), Path("run"))


@pytest.mark.parametrize("run", [None, Path("nowhere")])
def test_an_unknown_mode_without_a_file_names_the_choices(run: Path | None) -> None:
    with pytest.raises(UsageError, match=r"--mode magic: choose one of hier, .* --summaries"):
        find_summaries("magic", None, run)


@pytest.mark.parametrize("mode", ["", "a/b", "../x"])
def test_a_mode_is_part_of_a_file_name(mode: str) -> None:
    with pytest.raises(UsageError, match="without slashes"):
        find_summaries(mode, Path("x.jsonl"), None)


def test_every_summaries_file_of_run_is_found_by_its_mode(tmp_path: Path) -> None:
    for mode in ("mine", "recurrent", "a-b", "hier"):
        (tmp_path / f"summaries-{mode}.jsonl").touch()
    (tmp_path / "summaries-folder.jsonl").mkdir()
    found = RunFolder(tmp_path).all_summaries()
    assert list(found) == ["hier", "recurrent", "a-b", "mine"]
    assert found["mine"] == tmp_path / "summaries-mine.jsonl"
