import csv
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.helpers import counts, read
from trec_cli.core.errors import InputError, UsageError

HEADER = ["id", "locale", "title", "price", "brand", "color", "size", "model", "material"]
HEADER += ["author", "desc"]
PRODUCTS = [
    ["B1", "UK", 'The "big", red box', "9.99", "Acme", "red", "L", "M1", "wood", "", "Line\nbreak"],
    ["B1", "DE", "Die Kiste", "8.5", "Acme", "rot", "", "", "", "", ""],
    ["B2", "UK", "Small box", "40000000.07", "", "", "", "", "", "A. Writer", ""],
    ["B3", "UK", "", "", "", "", "", "", "", "", ""],
    ["B2", "UK", "Small box again", "1.0", "", "", "", "", "", "", ""],
]


def as_csv(header: list[str], rows: list[list[str]], end: str = "\n") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerows([header, *rows])
    return text.getvalue()


def write(folder: Path, sessions: list[list[str]], end: str = "\n") -> Path:
    (folder / "products_train.csv").write_bytes(as_csv(HEADER, PRODUCTS, end).encode())
    header = ["prev_items", "next_item", "locale"]
    (folder / "sessions_train.csv").write_bytes(as_csv(header, sessions, end).encode())
    return folder


def test_products_have_the_papers_attributes_and_empty_ones_are_skipped(tmp_path: Path) -> None:
    items, _ = read(write(tmp_path, [["['B1']", "B2", "UK"]]))
    assert list(items) == ["B1", "B2"]
    assert items["B1"].text() == (
        'title: The "big", red box; price: 9.99; brand: Acme; color: red; size: L; model: M1; '
        "material: wood; description: Line break"
    )
    assert items["B2"].attributes == {"title": "Small box", "author": "A. Writer"}


def test_of_products_that_stand_twice_the_one_with_most_text_counts(tmp_path: Path) -> None:
    write(tmp_path, [["['B1']", "B2", "UK"]])
    path = tmp_path / "products_train.csv"
    for rows in (PRODUCTS, PRODUCTS[::-1]):
        path.write_text(as_csv(HEADER, rows))
        items, _ = read(tmp_path)
        assert items["B2"].attributes == {"title": "Small box", "author": "A. Writer"}


def test_attributes_are_chosen(tmp_path: Path) -> None:
    write(tmp_path, [["['B1']", "B2", "UK"]])
    items, _ = read(tmp_path, attributes=("description", "title"))
    assert list(items["B1"].attributes) == ["description", "title"]
    with pytest.raises(UsageError, match="no attribute desc"):
        read(tmp_path, attributes=("desc",))


def test_arrays_are_read_as_numpy_prints_them(tmp_path: Path) -> None:
    long = [f"B{n:09d}" for n in range(30)]
    printed = str(np.array(long))
    assert "\n" in printed
    sessions = [
        ["['B1' 'B2'\n 'B3']", "B4", "UK"],
        ['["B1" "B2"]', "B4", "UK"],
        ["['B1', \"B'2\"]", "B4", "UK"],
        [printed, "B4", "UK"],
        ["[]", "B4", "UK"],
    ]
    _, questions = read(write(tmp_path, sessions))
    assert [q.history for q in questions] == [
        ["B1", "B2", "B3"],
        ["B1", "B2"],
        ["B1", "B'2"],
        long,
        [],
    ]
    assert {q.positives[0] for q in questions} == {"B4"}
    assert [q.line for q in questions] == [2, 4, 5, 6, 7 + printed.count("\n")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_locale_is_read_and_sessions_keep_their_number(tmp_path: Path, end: str) -> None:
    sessions = [["['B1']", "B1", "DE"], ["['B2'\n 'B2']", "B1", "UK"], ["['B1']", "B1", "JP"]]
    write(tmp_path, sessions, end)
    _, (only,) = read(tmp_path)
    assert (only.user_id, only.history) == ("session-2", ["B2", "B2"])
    items, (german,) = read(tmp_path, locale="DE")
    assert items["B1"].title == "Die Kiste"
    assert german.user_id == "session-1"
    assert counts(tmp_path) == {
        "products of UK": 4 - 1,
        "products that stand twice": 1,
        "sessions of UK": 1,
        "sessions of other locales": 2,
    }


def test_texts_that_say_there_is_none_and_products_without_id_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [["['B1']", "B2", "UK"]])
    with (tmp_path / "products_train.csv").open("a") as file:
        file.write("B7,UK,Seven,nan,None,null,,,,,NaN\n,UK,Nameless,1,,,,,,,\n")
    items, _ = read(tmp_path)
    assert items["B7"].attributes == {"title": "Seven"}
    assert counts(tmp_path)["products without id"] == 1


def test_a_zip_and_gz_are_read(tmp_path: Path) -> None:
    plain = write(tmp_path, [["['B1']", "B2", "UK"]])
    names = ("products_train.csv", "sessions_train.csv")
    with zipfile.ZipFile(tmp_path / "m2.zip", "w") as archive:
        for name in names:
            archive.write(plain / name, name)
    for name in names:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((plain / name).read_bytes()))
        (plain / name).unlink()
    _, zipped = read(tmp_path / "m2.zip")
    _, packed = read(tmp_path / "sessions_train.csv.gz")
    assert [q.history for q in zipped] == [q.history for q in packed] == [["B1"]]


@pytest.mark.parametrize(
    "row",
    [
        ["B1 B2", "B3", "UK"],
        ["['B1' 'B2'", "B3", "UK"],
        ["['B1' ... 'B2']", "B3", "UK"],
        ["['B1' '']", "B3", "UK"],
        ["['B1']", "", "UK"],
        ["", "B3", "UK"],
    ],
)
def test_a_session_that_cannot_be_read_is_named_by_line(tmp_path: Path, row: list[str]) -> None:
    write(tmp_path, [["['B1'\n 'B2']", "B3", "UK"], row])
    with pytest.raises(
        InputError, match=r"sessions_train\.csv, line 4: prev_items is not an array"
    ):
        read(tmp_path)


def test_a_cut_off_last_line_is_said(tmp_path: Path) -> None:
    write(tmp_path, [["['B1']", "B2", "UK"], ["['B1' 'B2']", "B2", "UK"]])
    path = tmp_path / "sessions_train.csv"
    path.write_bytes(path.read_bytes()[: -len("2',B2,UK\n") - 2])
    with pytest.raises(InputError, match=r"sessions_train\.csv, line 3"):
        read(tmp_path)


def test_an_unknown_locale_says_which_there_are(tmp_path: Path) -> None:
    write(tmp_path, [["['B1']", "B2", "UK"]])
    with pytest.raises(InputError, match="has no product of FR; it has DE, UK"):
        read(tmp_path, locale="FR")
    with pytest.raises(InputError, match="has no session of DE"):
        read(tmp_path, locale="DE")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not CSV in UTF-8"),
        (b"a,b\n1,2\n", "has no column id, locale, title"),
        (",".join(HEADER).encode() + b"\nB1,UK,Gr\xf6\xdfe,1,a,a,a,a,a,a,a\n", "not CSV in UTF-8"),
    ],
)
def test_broken_products_are_explained(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, [["['B1']", "B2", "UK"]])
    (tmp_path / "products_train.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert message in str(caught.value)
    assert "products_train.csv" in str(caught.value)
