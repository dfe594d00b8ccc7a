import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.core.errors import InputError
from trec_cli.prepare.archive import Source
from trec_cli.prepare.sources.rows import read_first, read_rows

cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def rows(path: Path, header: bool = True) -> list[tuple[int, dict[str, Any]]]:
    with Source(path) as source:
        (member,) = [m for m in source.members if m.file == path]
        first = read_first(source, member)
        columns = first if header else [str(n) for n in range(1, len(first) + 1)]
        found = read_rows(source, member, columns, has_header=header)
        return [(line, dict(values)) for line, values in found]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_any_delimiter_is_read(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = ["user,item,text", 'u1,i1,"a, ""b"""', "", 'u2,i2,"two\nlines"', "u3,i3,"]
    content = "\ufeff" + end.join(lines).replace(",", delimiter) + end
    got = rows(write(tmp_path, "a.csv", content))
    assert got == [
        (2, {"user": "u1", "item": "i1", "text": f'a{delimiter} "b"'}),
        (4, {"user": "u2", "item": "i2", "text": "two\nlines"}),
        (6, {"user": "u3", "item": "i3", "text": ""}),
    ]


@settings(max_examples=60)
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_what_the_csv_writer_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("user", "item"), *table])
    path = write(tmp_path_factory.mktemp("csv"), "a.csv", text.getvalue())
    assert [tuple(values.values()) for _, values in rows(path)] == table


def test_tsv_keeps_quotes_but_for_those_around_a_field(tmp_path: Path) -> None:
    content = 'user\titem\ttext\nu\ti\t"a ""b"" c"\nu\ti\t"Title" of it\nu\ti\tit is 5"\nu\ti\t"\n'
    got = [values["text"] for _, values in rows(write(tmp_path, "a.tsv", content))]
    assert got == ['a "b" c', '"Title" of it', 'it is 5"', '"']


def test_atomic_files_have_types_in_their_header_and_no_quotes(tmp_path: Path) -> None:
    content = 'user_id:token\tt:float_seq\nu\t"1 2"\n'
    assert rows(write(tmp_path, "a.inter", content)) == [(2, {"user_id": "u", "t": '"1 2"'})]


def test_movielens_has_no_header_and_may_be_latin_1(tmp_path: Path) -> None:
    content = "1::Caf\xe9: a film (1999)::Drama\n".encode("latin-1")
    got = rows(write(tmp_path, "movies.dat", content), header=False)
    assert got == [(1, {"1": "1", "2": "Caf\xe9: a film (1999)", "3": "Drama"})]


def test_jsonl_is_read_and_so_are_python_dictionaries(tmp_path: Path) -> None:
    lines = [json.dumps({"a": 1, "b": ["x"]}), "{'a': 2, 'b': None}"]
    got = rows(write(tmp_path, "a.jsonl", "\n".join(lines) + "\n"))
    assert got == [(1, {"a": 1, "b": ["x"]}), (2, {"a": 2, "b": None})]


def test_a_json_list_is_read(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf\n" + json.dumps([{"a": 1}, {"a": 2, "b": "x"}], indent=2).encode()
    assert rows(write(tmp_path, "a.json", content)) == [(1, {"a": 1}), (2, {"a": 2, "b": "x"})]


def test_blanks_around_names_and_decimals_of_parquet_do_no_harm(tmp_path: Path) -> None:
    assert rows(write(tmp_path, "a.csv", "user , item\nu,i\n")) == [(2, {"user": "u", "item": "i"})]
    frame = pl.DataFrame({"user": ["u"], "rating": ["4.5"]})
    frame.with_columns(pl.col("rating").cast(pl.Decimal(10, 1))).write_parquet(
        tmp_path / "a.parquet"
    )
    assert rows(tmp_path / "a.parquet") == [(1, {"user": "u", "rating": 4.5})]


def test_parquet_is_read(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2], "text": ["a", None]})
    frame.write_parquet(tmp_path / "a.parquet")
    got = rows(tmp_path / "a.parquet")
    assert got == [(1, {"user": 1, "text": "a"}), (2, {"user": 2, "text": None})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "user,item\nu\n", "line 2: has 1 column, not 2"),
        ("a.csv", "user,item\nu,i,x\n", "line 2: has 3 columns, not 2"),
        ("a.csv", 'user,item\nu,"i\nv,j\n', "line 2: is not CSV: unexpected end of data"),
        ("a.csv", 'user,item\nu,"i" x\n', "line 2: is not CSV: ',' expected"),
        ("a.csv", b"user,item\nu,i\n\xe9,i\n", "line 3: is not UTF-8"),
        ("a.csv", "user,item\n".encode("utf-16"), "line 1: is UTF-16 text"),
        ("a.csv", "", "is empty"),
        ("a.tsv", "user\titem\nu\n", "line 2: has 1 column, not 2"),
        ("a.json", '[{"a": 1}, 2]', "is not a JSON list of objects: Expected `object`, got `int`"),
        ("a.json", '[{"a": 1}', "is not a JSON list of objects: Input data was truncated"),
        ("a.json", "[" * 5000, "is not a JSON list of objects"),
        ("a.jsonl", '{"a": 1}\n[1]\n', "line 2: the line must be an object"),
        ("a.jsonl", "{'a': open('x')}\n", "line 1: is not JSON"),
        ("a.parquet", "PAR1", "is not a readable Parquet file"),
        ("a.csv.gz", gzip.compress(b"user,item\n" * 99)[:-9], "compressed file is damaged"),
    ],
)
def test_faults_are_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rows(write(tmp_path, name, content))
    assert message in str(caught.value)
    assert name in str(caught.value)
