import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prepare.helpers import counts, read
from trec_cli.core.errors import InputError, UsageError

NEWS = [
    'N1\tsports\tsoccer\tA "quoted" title\tAbstract one\thttps://x\t[]\t[{"Label": "x"}]',
    "N2\tnews\tworld\tZweite Größe\t\thttps://x\t[]\t[]",
    "N3\tnews\tworld\tThird\tAbstract three\thttps://x\t[]\t[]",
    "N4\tnews\tworld\tFourth\tAbstract four\thttps://x\t[]\t[]",
]
BEHAVIORS = [
    "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN3-1 N4-0",
    "2\tU2\t11/12/2019 6:00:00 PM\tN1\tN2-0 N3-0",
    "3\tU1\t11/10/2019 9:05:58 AM\tN1 N2\tN4-1 N3-1 N1-0",
]


def write(folder: Path, news: list[str] = NEWS, behaviors: list[str] = BEHAVIORS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "news.tsv").write_text("\n".join(news) + "\n", encoding="utf-8")
    (folder / "behaviors.tsv").write_text("\n".join(behaviors) + "\n", encoding="utf-8")
    return folder


def test_news_keep_the_default_attributes_unquoted(tmp_path: Path) -> None:
    items, _ = read(write(tmp_path))
    assert items["N1"].attributes == {
        "title": 'A "quoted" title',
        "category": "sports",
        "subcategory": "soccer",
    }
    assert items["N2"].title == "Zweite Größe"


def test_the_abstract_is_there_for_those_who_ask(tmp_path: Path) -> None:
    items, _ = read(write(tmp_path), attributes=("category", "abstract"))
    assert list(items["N1"].attributes.items()) == [
        ("category", "sports"),
        ("abstract", "Abstract one"),
    ]
    with pytest.raises(UsageError, match="no attribute url in this collection; there are title"):
        read(tmp_path, attributes=("url",))


def test_the_last_click_of_the_history_is_the_target_once_a_user(tmp_path: Path) -> None:
    _, questions = read(write(tmp_path))
    got = {q.user_id: (q.history, q.positives, q.line, q.timestamp) for q in questions}
    assert got == {"U1": (["N1"], ["N2"], 1, None), "U2": ([], ["N1"], 2, None)}


def test_clicked_articles_are_the_target_of_the_last_impression_by_time(tmp_path: Path) -> None:
    _, (only,) = read(write(tmp_path), target="impression")
    assert (only.example_id, only.history, only.positives) == ("U1", ["N1", "N2"], ["N3"])
    assert only.offered == ["N4"]
    assert only.timestamp == 1573463158  # date -u -d '2019-11-11 09:05:58' +%s


def test_without_times_the_later_line_counts(tmp_path: Path) -> None:
    lines = [line.replace(line.split("\t")[2], "") for line in BEHAVIORS]
    _, (only,) = read(write(tmp_path, behaviors=lines), target="impression")
    assert (only.positives, only.timestamp) == (["N4", "N3"], None)


def test_equal_times_take_the_later_line(tmp_path: Path) -> None:
    lines = [line.replace(line.split("\t")[2], "1/2/2020 1:00:00 PM") for line in BEHAVIORS]
    _, (only,) = read(write(tmp_path, behaviors=lines), target="impression")
    assert only.positives == ["N4", "N3"]


def test_every_impression_can_be_an_example(tmp_path: Path) -> None:
    _, questions = read(write(tmp_path), target="impression", per_impression=True)
    assert [q.example_id for q in questions] == ["U1-1", "U1-3"]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    write(tmp_path)
    expected = {"news": 4, "impressions": 3, "users": 1, "impressions without click": 1}
    assert counts(tmp_path, target="impression") == expected
    write(tmp_path, behaviors=[*BEHAVIORS, "4\tU9\t\t\tN1-1"])
    assert counts(tmp_path)["impressions with empty history"] == 1


def test_train_and_dev_are_read_together_from_zips(tmp_path: Path) -> None:
    for part, hour in (("train", 1), ("dev", 2)):
        lines = [f"1\tU1\t11/11/2019 {hour}:00:00 AM\tN1\tN{hour}-1 N4-0"]
        folder = write(tmp_path / "plain" / part, behaviors=lines)
        with zipfile.ZipFile(tmp_path / f"MINDsmall_{part}.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"MINDsmall_{part}/{file.name}")
        for file in (*folder.iterdir(), folder):
            file.rmdir() if file.is_dir() else file.unlink()
    _, questions = read(tmp_path, target="impression")
    got = {q.example_id: (q.part, q.positives) for q in questions}
    assert got == {"U1-train": ("train", ["N1"]), "U1-dev": ("dev", ["N2"])}
    _, (only,) = read(tmp_path)
    assert (only.part, only.positives) == ("dev", ["N1"])
    _, both = read(tmp_path, target="impression", per_impression=True)
    assert [q.example_id for q in both] == ["U1-MINDsmall_train/1", "U1-MINDsmall_dev/1"]


@pytest.mark.parametrize(
    ("folder", "part"),
    [
        ("MINDsmall_train", "train"),
        ("MINDlarge_dev", "dev"),
        ("valid", "dev"),
        ("mind/test/deep", "test"),
        ("latest", None),
        ("trainees", None),
        (".", None),
    ],
)
def test_the_part_is_told_by_the_name_of_its_folder(
    tmp_path: Path, folder: str, part: str | None
) -> None:
    write(tmp_path / folder)
    for target in ("history", "impression"):
        _, questions = read(tmp_path, target=target)
        assert {q.part for q in questions} == {part}


def test_the_test_part_without_labels_gives_questions_to_predict(tmp_path: Path) -> None:
    line = "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN3 N4"
    write(tmp_path / "MINDlarge_test", behaviors=[line, line.replace("1\tU1", "2\tU1")])
    _, (only,) = read(tmp_path)
    assert (only.positives, only.split) == (["N2"], None)
    _, (one, two) = read(tmp_path, target="impression")
    assert [one.example_id, two.example_id] == ["U1-1", "U1-2"]
    assert (one.history, one.positives, one.offered) == (["N1", "N2"], [], ["N3", "N4"])
    assert (one.split, one.part) == ("predict", "test")
    assert counts(tmp_path, target="impression")["impressions without labels"] == 2


def test_labelled_and_unlabelled_parts_go_together(tmp_path: Path) -> None:
    write(tmp_path / "MINDsmall_train")
    write(tmp_path / "test", behaviors=["1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN3 N4"])
    _, questions = read(tmp_path, target="impression")
    assert {q.example_id: (q.part, q.split) for q in questions} == {
        "U1-train": ("train", None),
        "U1-test/1": ("test", "predict"),
    }


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("news.tsv", "behaviors.tsv"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    items, questions = read(tmp_path, target="impression", per_impression=True)
    assert list(items) == ["N1", "N2", "N3", "N4"]
    assert [q.example_id for q in questions] == ["U1-1", "U1-3"]


def test_of_articles_that_differ_the_longest_text_counts_wherever_it_stands(
    tmp_path: Path,
) -> None:
    short = "N1\tsports\tsoccer\tShort\t\t\t[]\t[]"
    for news in ([short, *NEWS], [*NEWS, short]):
        items, _ = read(write(tmp_path, news=news))
        assert items["N1"].title == 'A "quoted" title'


def test_line_ends_of_windows_and_blank_lines_are_fine(tmp_path: Path) -> None:
    write(tmp_path)
    for name in ("news.tsv", "behaviors.tsv"):
        text = (tmp_path / name).read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(text + b"\r\n")
    _, questions = read(tmp_path, target="impression", per_impression=True)
    assert questions[0].offered == ["N4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2\tU2\t\tN1", "line 2: has 4 columns, not 5"),
        ("2\tU2\tyesterday\tN1\tN2-1", "line 2: 'yesterday' is not a time"),
        ("2\tU2\t\tN1\tN2-7", "line 2: 'N2-7' is not an article with -0 or -1"),
        ("2\t\t\tN1\tN2-1", "line 2: has no impression id or no user id"),
        ("2\tU2\t\tN1\tN2-1 N3", "line 2: has articles with and without label"),
    ],
)
def test_what_is_wrong_with_an_impression_is_said(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, behaviors=[BEHAVIORS[0], line, line])
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert f"behaviors.tsv, {message}" in str(caught.value)
    assert len(caught.value.faults) == 2


def test_an_impression_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, behaviors=[BEHAVIORS[0], BEHAVIORS[0]])
    with pytest.raises(InputError, match="line 2: impression '1' of 'U1' stands twice"):
        read(tmp_path, target="impression", per_impression=True)


def test_latin_1_and_damaged_files_are_explained(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "news.tsv").write_bytes("N1\ta\tb\tGröße\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"news\.tsv, line 1: is not UTF-8 text"):
        read(tmp_path)
    packed = gzip.compress("\n".join(NEWS * 50).encode())
    (tmp_path / "news.tsv").unlink()
    (tmp_path / "news.tsv.gz").write_bytes(packed[: len(packed) - 20])
    with pytest.raises(InputError, match=r"news\.tsv\.gz: the compressed file is damaged"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["news.tsv", "behaviors.tsv"])
def test_an_empty_file_is_said(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match=rf"{name}: is empty"):
        read(tmp_path)


def test_the_real_slice_is_read(real_data: Callable[[str], Path]) -> None:
    items, questions = read(real_data("mind"))
    assert len(questions) == 2674
    assert len(items) == 12114
    _, questions = read(real_data("mind"), target="impression")
    assert sum(len(q.positives) for q in questions) == 3172
    assert all(q.timestamp is None for q in questions)
