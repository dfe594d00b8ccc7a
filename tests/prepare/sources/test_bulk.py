"""The short way for plain logs reads what the reader of rows reads, or leaves it alone."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trec_cli.core.errors import InputError
from trec_cli.core.progress import Silent
from trec_cli.prepare.archive import Source
from trec_cli.prepare.collection import Question, ReadOptions
from trec_cli.prepare.detect import detect
from trec_cli.prepare.sources import clicks
from trec_cli.prepare.sources.bulk import read_in_bulk

Way = Callable[..., int | None]
_T = 1_700_000_000


def _read(folder: Path, way: Way, monkeypatch: pytest.MonkeyPatch) -> list[Question] | str:
    """Read a folder by one way; what is wrong with it, where something is."""
    monkeypatch.setattr(clicks, "read_in_bulk", way)
    try:
        with Source(folder) as source:
            found = detect(source)
            got = found.format.read(source, found.files, ReadOptions(), Silent())
            return list(got.questions)
    except InputError as error:
        return str(error)


def _both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, bool]:
    """Compare both ways; return what was read, and whether the short way was taken."""
    taken: list[bool] = []

    def watched(*arguments: Any) -> int | None:
        found = read_in_bulk(*arguments)
        taken.append(found is not None)
        return found

    rows = _read(folder, lambda *_: None, monkeypatch)
    assert _read(folder, watched, monkeypatch) == rows
    return rows, all(taken)


def _write(folder: Path, content: str | bytes, name: str = "clicks.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "items.csv").write_text("item_id,title\na,Pot\nb,Saw\nc,Pan\n")
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(raw)
    return folder


HEAD = "user_id,item_id,timestamp\n"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (HEAD + f"u,a,{_T}\nv,b,{_T}\nu,b,{_T - 5}\nu,b,{_T - 5}\n", "clicks.csv"),
        (HEAD.replace("\n", "\r\n") + f"u,a,{_T}\r\nv,b,{_T}\r\n", "clicks.csv"),
        (HEAD.replace(",", ";") + f"ü;a;{_T}\n v ;b;{_T}", "clicks.csv"),
        (
            "user_id\titem_id\ttimestamp\trating\n" + f"u\ta\t{_T}001\t4\nu\tb\t{_T}\t3",
            "clicks.tsv",
        ),
        (
            "user_id\titem_id\ttimestamp\trating\n" + f"u\ta\t{_T}001\t4\nu\tb\t{_T}000\t3.5\n",
            "l.tsv",
        ),
        ("user_id:token\titem_id:token\ttimestamp:float\n" + f"u\ta\t{_T}\n", "x.inter"),
    ],
)
def test_a_plain_log_is_read_the_short_way_and_alike(
    content: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, short = _both(_write(tmp_path / "log", content, name), monkeypatch)
    assert short != ("001\t4\nu\tb\t1700000000\t3" in content)  # milliseconds among seconds
    assert isinstance(rows, list) == short


@pytest.mark.parametrize(
    "content",
    [
        HEAD + f'"u",a,{_T}\n',
        HEAD + f"u,a,{_T}\n\nv,b,{_T}\n",
        HEAD + f"u,a,{_T}\nv,b\n",
        HEAD + f"u,a,{_T}\nv,b,{_T},9\n",
        HEAD + f"u,a,{_T}\n,b,{_T}\n",
        HEAD + f"u,a,{_T}\nv,b,\n",
        HEAD + f"u,a,{_T}\nv,b,2023-11-14 10:00:00\n",
        HEAD + "u,a,2023-11-14\nv,b,2023-11-15\n",
        HEAD + f"u,a,{_T}\nv,b,-62135596800\n",
        HEAD + f"u,a,{_T}\nv,b,99\n",
        HEAD + "u,a,7\nv,b,99\n",
        HEAD + "u,a,20231114\nv,b,20231115\n",
        HEAD + f"u,a,{_T}.5\n",
        (HEAD + f"u\xff,a,{_T}\n").encode("latin-1"),
        b"\xef\xbb\xbf" + (HEAD + f"u,a,{_T}\n").encode(),
        HEAD + f"u,a,{_T}\rv,b,{_T}\n",
        HEAD + f"u\0,a,{_T}\n",
        HEAD,
    ],
)
def test_what_is_not_plain_is_left_to_the_reader_of_rows(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, short = _both(_write(tmp_path / "log", content), monkeypatch)
    assert short == (content == HEAD)


def test_a_compressed_log_in_parts_is_one_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _write(tmp_path / "log", HEAD + f"u,a,{_T}\n", "clicks-1.csv")
    (folder / "clicks-2.csv.gz").write_bytes(
        gzip.compress((HEAD + f"v,b,{_T}\nu,c,{_T}\n").encode())
    )
    rows, short = _both(folder, monkeypatch)
    assert short
    assert [q.user_id for q in rows] == ["u", "v"]


def test_a_part_that_is_not_plain_takes_nothing_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _write(tmp_path / "log", HEAD + f"u,a,{_T}\n", "clicks-1.csv")
    (folder / "clicks-2.csv").write_text(HEAD + f'w,c,{_T}\n"v",b,{_T}\nu,c,{_T}\n')
    rows, _ = _both(folder, monkeypatch)
    assert [q.user_id for q in rows] == ["u", "w", "v"]


_cell = st.text(st.sampled_from('ab ,"\t\r\n;é\u00a0\x1c0'), max_size=3)
_time = st.one_of(st.integers(_T, _T + 3).map(str), st.sampled_from(["", "7", "x", f" {_T}", "+9"]))


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    events=st.lists(
        st.tuples(st.one_of(st.just("u"), _cell), st.sampled_from("abc"), _time), max_size=6
    )
)
def test_any_log_is_read_alike_by_both_ways(
    events: list[tuple[str, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(",".join(event) + "\n" for event in events)
    _both(_write(tmp_path / "log", HEAD + lines), monkeypatch)
