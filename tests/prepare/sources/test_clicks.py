"""Logs of clicks in every form people have, beside items in every form."""

import gzip
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.prepare.helpers import write_jsonl
from trec_cli.commands.app import app
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import read_examples
from trec_cli.core.manifest import read_manifest
from trec_cli.core.progress import Silent
from trec_cli.core.records import Item
from trec_cli.prepare.archive import Source
from trec_cli.prepare.collection import Question, ReadOptions
from trec_cli.prepare.detect import detect
from trec_cli.prepare.sources.columns import parse_columns

EVENTS = [("u1", "a", 30, 5.0), ("u1", "b", 10, 1.0), ("u2", "b", 20, 3.0), ("u1", "c", 20, 4.0)]
TEXTS = {"a": "Thing A", "b": "Thing B", "c": "Thing C"}


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def info(self, message: str) -> None:
        self.messages.append(message)

    def warn(self, message: str) -> None:
        self.messages.append(f"warning: {message}")


def read(
    path: Path, items: Path | None = None, told: Told | None = None, **options: Any
) -> tuple[dict[str, Item], dict[str, Question], dict[str, int]]:
    columns = options.get("columns")
    with Source(path, items=items, columns=parse_columns(columns)) as source:
        found = detect(source)
        assert found.format.name == "clicks"
        chosen = ReadOptions(options.pop("attributes", None), **options)
        got = found.format.read(source, found.files, chosen, told or Told())
        assert got.is_log
        questions = {q.user_id: q for q in got.questions}
        texts = {item.item_id: item for item in got.catalogue.fetch(sorted(got.catalogue.ids))}
        return texts, questions, dict(got.counts)


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def delimited(
    rows: Iterable[tuple[Any, ...]], header: str | None = None, by: str = ","
) -> list[str]:
    lines = [by.join(map(str, row)) for row in rows]
    return lines if header is None else [header.replace(",", by), *lines]


def events_csv(folder: Path) -> None:
    write(folder / "clicks.csv", *delimited(EVENTS, "user,item,time,rating"))
    write(folder / "items.csv", *delimited(TEXTS.items(), "item_id,title"))


def events_tsv(folder: Path) -> None:
    write(folder / "clicks.tsv", *delimited(EVENTS, "User ID,Item ID,Timestamp,Rating", "\t"))
    write_jsonl(folder / "items.jsonl", [{"item_id": i, "title": t} for i, t in TEXTS.items()])


def events_jsonl(folder: Path) -> None:
    names = ("visitor_id", "sku", "ts", "stars")
    write_jsonl(folder / "clicks.jsonl", [dict(zip(names, e, strict=True)) for e in EVENTS])
    pl.DataFrame({"sku": list(TEXTS), "title": list(TEXTS.values())}).write_parquet(
        folder / "products.parquet"
    )


def events_parquet(folder: Path) -> None:
    columns = list(zip(*EVENTS, strict=True))
    names = ("customer_id", "product_id", "created_at", "score")
    pl.DataFrame(dict(zip(names, map(list, columns), strict=True))).write_parquet(
        folder / "log.parquet"
    )
    write(folder / "products.csv", *delimited(TEXTS.items(), "product_id;title", ";"))


def amazon_2023(folder: Path) -> None:
    rows = [(u, i, r, 1_588_687_728_000 + t * 1000) for u, i, t, r in EVENTS]
    write(folder / "Shop.csv", *delimited(rows, "user_id,parent_asin,rating,timestamp"))
    meta = [{"parent_asin": i, "title": t} for i, t in [*TEXTS.items(), ("z", "Nobody's")]]
    write_jsonl(folder / "meta_Shop.jsonl", meta)


def amazon_parts(folder: Path) -> None:
    rows = [(u, i, r, 1_588_687_728_000 + t * 1000) for u, i, t, r in EVENTS]
    for part, some in (("train", rows[:2]), ("valid", rows[2:3]), ("test", rows[3:])):
        header = "user_id,parent_asin,rating,timestamp"
        write(folder / f"Shop.{part}.csv", *delimited(some, header))
    write_jsonl(folder / "meta_Shop.jsonl", [{"parent_asin": i, "title": TEXTS[i]} for i in TEXTS])


def classic_ratings(folder: Path) -> None:
    rows = [(i, u, r, 1_588_687_728 + t) for u, i, t, r in EVENTS]
    write(folder / "Shop.csv", *delimited(rows))
    write_jsonl(folder / "meta_Shop.json", [{"asin": i, "title": TEXTS[i]} for i in TEXTS])


def classic_ratings_of_2014(folder: Path) -> None:
    rows = [(u, i, r, 1_588_687_728 + t) for u, i, t, r in EVENTS]
    write(folder / "Shop.csv", *delimited(rows))
    write(folder / "meta_Shop.json", *[str({"asin": i, "title": TEXTS[i]}) for i in TEXTS])


def recbole(folder: Path) -> None:
    header = "user_id:token,item_id:token,timestamp:float,rating:float"
    write(folder / "shop.inter", *delimited(EVENTS, header, "\t"))
    write(folder / "shop.item", *delimited(TEXTS.items(), "item_id:token,title:token_seq", "\t"))
    write(folder / "shop.user", "user_id:token\tage:float", "u1\t7")


def movielens(folder: Path) -> None:
    rows = [(u, i, r, t) for u, i, t, r in EVENTS]
    write(folder / "ratings.dat", *delimited(rows, by="::"))
    write(folder / "movies.dat", *[f"{i}::{t}::Drama|Noir" for i, t in TEXTS.items()])
    write(folder / "users.dat", "u1::F::1::10::48067")


def movielens_latest(folder: Path) -> None:
    rows = [(u, i, r, t) for u, i, t, r in EVENTS]
    write(folder / "ratings.csv", *delimited(rows, "userId,movieId,rating,timestamp"))
    movies = [(i, t, "Drama|Noir") for i, t in TEXTS.items()]
    write(folder / "movies.csv", *delimited(movies, "movieId,title,genres"))
    write(folder / "tags.csv", "userId,movieId,tag,timestamp", "u1,a,nice,7")
    write(folder / "links.csv", "movieId,imdbId,tmdbId", "a,1,2")


LAYOUTS = [
    *(events_csv, events_tsv, events_jsonl, events_parquet, amazon_2023, amazon_parts),
    *(classic_ratings, classic_ratings_of_2014, recbole, movielens, movielens_latest),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_timelines_and_texts(
    tmp_path: Path, layout: Callable[[Path], None]
) -> None:
    layout(tmp_path)
    items, questions, _ = read(tmp_path)
    assert {item_id: item.title for item_id, item in items.items()} == TEXTS
    assert (questions["u1"].history, questions["u1"].positives) == (["b", "c"], ["a"])
    assert questions["u1"].ratings == [1.0, 4.0, 5.0]
    start = questions["u2"].timestamp or 0
    assert [(t - start) for t in questions["u1"].times or []] == [-10, 0]
    assert (questions["u1"].timestamp or 0) - start == 10
    assert (questions["u2"].history, questions["u2"].positives) == ([], ["b"])


def test_users_and_items_without_header_are_counted_as_what_they_are(tmp_path: Path) -> None:
    for layout in (classic_ratings, classic_ratings_of_2014):
        (tmp_path / layout.__name__).mkdir()
        layout(tmp_path / layout.__name__)
        _, _, counts = read(tmp_path / layout.__name__)
        assert (counts["users"], counts["items in the log"]) == (2, 3)


def test_everything_may_be_packed(tmp_path: Path) -> None:
    events_csv(tmp_path)
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for name in ("clicks.csv", "items.csv"):
            archive.write(tmp_path / name, name)
            packed = gzip.compress((tmp_path / name).read_bytes())
            (tmp_path / f"{name}.gz").write_bytes(packed)
            (tmp_path / name).unlink()
    for path in (tmp_path / "shop.zip", tmp_path / "clicks.csv.gz"):
        items, questions, _ = read(path)
        assert len(items) == 3
        assert questions["u1"].history == ["b", "c"]


def test_texts_may_stand_in_the_log_and_the_most_frequent_counts(tmp_path: Path) -> None:
    write(
        tmp_path / "table.csv",
        "User,Item,Item Description,Quantity,Date",
        "u,b,Thing bee,1,2/9/23",
        "v,b,Thing B,2,2/10/23",
        "w,b,Thing B,2,2/13/23",
        "u,a,Thing A,3,2/12/23",
    )
    told = Told()
    items, questions, _ = read(tmp_path, told=told)
    assert items["b"].attributes == {"Item Description": "Thing B"}
    assert questions["u"].positives == ["a"]
    assert questions["u"].timestamp == 1_676_160_000  # date -u -d 2023-02-12 +%s
    assert told.messages == ["times are read as %m/%d/%y"]
    items, _, _ = read(tmp_path, attributes=("Quantity",))
    assert items["a"].attributes == {"Quantity": "3"}
    with pytest.raises(UsageError, match="no attribute Color"):
        read(tmp_path, attributes=("Color",))


def test_columns_are_named_where_nobody_would_guess(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "who,what,when", "u,a,2023-02-10", "u,b,2023-02-09")
    write(tmp_path / "items.csv", "item_id,title", "a,A", "b,B")
    known = r"log.csv with columns who, what, when.* --columns user=COLUMN"
    with pytest.raises(InputError, match=known):
        read(tmp_path)
    columns = ("user=who", "item=what", "time=when")
    _, questions, _ = read(tmp_path, columns=columns)
    assert questions["u"].history == ["b"]
    write(tmp_path / "log.csv", "2023-02-10,u,a", "2023-02-09,u,b")
    _, questions, _ = read(tmp_path, columns=("user=2", "item=3", "time=1"))
    assert questions["u"].history == ["b"]
    write(tmp_path / "items.csv", "item_id,title,brand", "a,A,X", "b,B,Y")
    items, _, _ = read(tmp_path, columns=("user=2", "item=3", "time=1"))
    assert items["a"].attributes == {"title": "A", "brand": "X"}
    with pytest.raises(UsageError, match="--columns who: write user=COLUMN"):
        read(tmp_path, columns=("who",))


def test_a_named_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    events_csv(tmp_path)
    with pytest.raises(UsageError, match=r"--columns rating=stras: .*clicks.csv has the columns"):
        read(tmp_path, columns=("rating=stras",))
    with pytest.raises(UsageError, match=r"--columns user=1: .* has the columns user, item"):
        read(tmp_path, columns=("user=1",))


def test_the_named_item_column_holds_for_the_table_of_items_too(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user,what,item,time", "u,a,1,1", "u,b,2,2")
    write(tmp_path / "items.csv", "what,name", "a,A", "b,B")
    items, questions, _ = read(tmp_path, columns=("item=what",))
    assert items["a"].attributes == {"name": "A"}
    assert questions["u"].history == ["a"]


def test_the_items_may_lie_somewhere_else(tmp_path: Path) -> None:
    log = write(tmp_path / "a" / "log.csv", *delimited(EVENTS, "user,item,time,rating"))
    table = write(tmp_path / "b" / "names.csv", *delimited(TEXTS.items(), "id,name"))
    items, _, _ = read(log, table)
    assert items["a"].attributes == {"name": "Thing A"}
    with pytest.raises(InputError, match="no such file"):
        read(log, tmp_path / "c.csv")
    other = write(tmp_path / "b" / "other.csv", "id,name", "7,Seven")
    with pytest.raises(InputError, match="has no item of the log, whose ids look like 'a'"):
        read(log, other)


@pytest.mark.parametrize("empty", ["clicks.csv", "items.csv"])
def test_of_two_files_the_one_without_rows_is_named(tmp_path: Path, empty: str) -> None:
    events_csv(tmp_path)
    write(tmp_path / empty, (tmp_path / empty).read_text().splitlines()[0])
    with pytest.raises(InputError, match=rf"/{empty}: has no rows \(make it again"):
        read(tmp_path)


def test_where_no_example_is_left_the_log_is_named_and_not_the_items(tmp_path: Path) -> None:
    events_csv(tmp_path / "shop")
    result = CliRunner().invoke(
        app,
        ["prepare", str(tmp_path / "shop"), "--out", str(tmp_path / "run"), "--min-history", "9"],
    )
    assert result.exit_code == 3
    assert "/clicks.csv: no example is left (2: history shorter than 9)" in result.stderr


def test_numbers_and_texts_name_the_same_item(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1, 1], "item": [7.0, 8.0], "time": [1, 2]}).write_parquet(
        tmp_path / "log.parquet"
    )
    write_jsonl(tmp_path / "items.jsonl", [{"id": 7, "title": "A"}, {"id": "8", "title": "B"}])
    items, questions, _ = read(tmp_path)
    assert list(items) == ["7", "8"]
    assert (questions["1"].history, questions["1"].positives) == (["7"], ["8"])


def test_leading_zeros_and_words_like_null_are_ids_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user,item,time", "007,null,1", "007, NA ,2", "7,1e3,3")
    write(tmp_path / "items.csv", "item,title", "null,A", "NA,B", "1e3,C")
    _, questions, _ = read(tmp_path)
    assert {u: [*q.history, *q.positives] for u, q in questions.items()} == {
        "007": ["null", "NA"],
        "7": ["1e3"],
    }


def test_the_order_of_rows_decides_nothing_but_equal_times(tmp_path: Path) -> None:
    rows = [("u", "a", 3), ("u", "b", 1), ("u", "b", 1), ("v", "a", 2), ("u", "c", 2)]
    texts = [("a", "A long text"), ("a", "Short"), ("b", "B"), ("b", "B"), ("c", "x"), ("c", "y")]
    for name, step in (("one", 1), ("two", -1)):
        write(tmp_path / name / "log.csv", *delimited(rows[::step], "user,item,time"))
        write(tmp_path / name / "items.csv", *delimited(texts[::step], "item,title"))
    one, two = read(tmp_path / "one"), read(tmp_path / "two")
    assert one[0] == two[0]
    assert one[0]["a"].title == "A long text"
    assert one[2] == two[2]
    assert one[2]["exact repeats of an event"] == 1
    assert one[2]["items whose rows differ"] == 2
    assert one[1]["u"].history == two[1]["u"].history == ["b", "c"]


def test_pictures_and_addresses_are_no_texts(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", *delimited(EVENTS, "user,item,time,rating"))
    write(tmp_path / "items.csv", "item,title,image_url,videoGame,imgURL", "a,A,h,yes,h")
    told = Told()
    items, _, _ = read(tmp_path, told=told)
    assert items["a"].attributes == {"title": "A", "videoGame": "yes"}
    assert told.messages[0].startswith("no texts: image_url, imgURL")
    items, _, _ = read(tmp_path, attributes=("imgURL",))
    assert items["a"].attributes == {"imgURL": "h"}


def test_endings_in_capitals_are_known(tmp_path: Path) -> None:
    events_csv(tmp_path)
    (tmp_path / "clicks.csv").rename(tmp_path / "CLICKS.CSV")
    assert read(tmp_path)[1]["u1"].history == ["b", "c"]


def test_of_amazons_metadata_the_usual_texts_are_kept(tmp_path: Path) -> None:
    amazon_2023(tmp_path)
    meta = {"parent_asin": "a", "title": "A", "average_rating": 4.5, "store": "S", "videos": ["x"]}
    write_jsonl(tmp_path / "meta_Shop.jsonl", [meta])
    assert read(tmp_path)[0]["a"].attributes == {"title": "A", "store": "S"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",a,1,5", "line 3: user: the id is missing"),
        ("u,  ,1,5", "line 3: item: the id is missing"),
        ("u,a,,5", "line 3: the time is missing"),
        ("u,a,nan,5", "line 3: nan is no time"),
        ("u,a,9223372036854776,5", "line 3: 9223372036854776 is no time between"),
        ("u,a,1,good", "line 3: the rating 'good' is not a number"),
        ("u,a,1,nan", "line 3: the rating is nan"),
        ("u,a,1", "line 3: has 3 columns, not 4"),
    ],
)
def test_what_is_wrong_with_an_event_is_said(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path / "log.csv", "user,item,time,rating", "u,a,1,5", row)
    write(tmp_path / "items.csv", "item,title", "a,A")
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"log.csv": "user,item\nu,a\n"}, "has no column of times; it has user, item"),
        ({"log.csv": "user,item,time\nu,a,1\n"}, "has no texts of items"),
        ({"log.csv": "user,user,item,time\nu,u,a,1\n"}, "has two columns 'user'"),
        ({"a.csv": "user,item,time\n", "b.csv": "user,item,time\n"}, "holds several logs"),
        (
            {"log.csv": "user,item,time\n", "x.csv": "item,t\n", "y.csv": "item,t\n"},
            "holds several tables of items",
        ),
        ({"a.csv": "user,item,time\nu,a,1\nu,a,9/1/23\n", "items.csv": "item,t\na,A\n"}, "both"),
    ],
)
def test_what_cannot_be_understood_is_said(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    if message == "both":
        files["a.csv"] = files["a.csv"].replace(",1\n", ",1588687728\n")
        (tmp_path / "a.csv").write_text(files["a.csv"])
        message = "has times as numbers and as dates, such as '9/1/23'"
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert message in str(caught.value)


def test_events_whose_time_was_never_set_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user,item,time", "u,a,1588687728923", "u,b,-62135596800000")
    write(tmp_path / "items.csv", "item,title", "a,A", "b,B")
    _, questions, counts = read(tmp_path)
    assert (questions["u"].history, questions["u"].positives) == ([], ["a"])
    assert counts["left out: no time was set"] == 1


def test_the_unit_of_times_is_said(tmp_path: Path) -> None:
    told = Told()
    amazon_2023(tmp_path)
    read(tmp_path, told=told)
    assert told.messages == ["times are read as milliseconds"]


def test_meta_files_keep_the_items_of_the_log_alone(tmp_path: Path) -> None:
    amazon_2023(tmp_path)
    items, _, counts = read(tmp_path)
    assert list(items) == ["a", "b", "c"]
    assert counts["items outside the log"] == 1
    assert json.dumps(counts)


def test_a_log_is_read_from_standard_input(tmp_path: Path) -> None:
    folder, out = tmp_path / "shop", tmp_path / "run"
    events_csv(folder)
    with (folder / "items.csv").open("a") as file:
        file.write("d,Thing D\n")
    log = (folder / "clicks.csv").read_text() + "u2,d,1,3\n"
    (folder / "clicks.csv").unlink()
    command = ["prepare", "-", "--items", str(folder / "items.csv"), "--out", str(out)]
    first = CliRunner().invoke(app, command, input=log)
    assert first.exit_code == 0, first.output
    asked = {e.user_id: (e.history, e.positives) for e in read_examples(out / "examples.jsonl")}
    assert asked["u1"] == (["b", "c"], ["a"])
    manifest = read_manifest(out / "examples.jsonl") or {}
    assert "standard input" in manifest["inputs"]
    again = CliRunner().invoke(app, command, input=log)
    assert "nothing to do" in again.output
    other = CliRunner().invoke(app, command, input=log.replace("u2", "u3"))
    assert other.exit_code == 2
    assert "of whom 1 is gone from the inputs: u2." in other.output
