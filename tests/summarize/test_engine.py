"""The store: by content, whole batches, several writers, damaged files."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import InputError, OutputFailed, PartialError
from trec_cli.summarize.engine import Generation, Keys, Store

WRITER = """
import sys
from pathlib import Path
from trec_cli.summarize.engine import Generation
from trec_cli.summarize.engine import Keys, Store
keys = Keys({"model": "m"})
name, path = sys.argv[1], Path(sys.argv[2])
with Store(path) as store:
    for batch in range(60):
        numbers = range(batch * 3, batch * 3 + 3)
        store.put({keys.key([n]): Generation(f"{name} {n // 3}", n, 1, True) for n in numbers})
"""


def generation(text: str = "text") -> Generation:
    return Generation(text, 10, 3, True)


def test_a_text_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    made = Generation("日本 🍵\nzwei\x00", 12, 5, False)
    with Store(tmp_path / "s.sqlite") as store:
        store.put({b"k" * 16: made})
    with Store(tmp_path / "s.sqlite") as store:
        assert store.get([b"k" * 16, b"other" * 3]) == {b"k" * 16: made}


def test_more_keys_than_a_query_takes_are_found() -> None:
    keys = Keys({})
    made = {keys.key([n]): generation(str(n)) for n in range(2500)}
    with Store(IN_MEMORY) as store:
        store.put(made)
        assert store.get(made) == made


def test_a_key_depends_on_ids_and_identity_and_on_nothing_else() -> None:
    assert Keys({"a": 1, "b": 2}).key([1, 2]) == Keys({"b": 2, "a": 1}).key((1, 2))
    assert Keys({"a": 1}).key([1, 2]) != Keys({"a": 2}).key([1, 2])
    assert Keys({"a": 1}).key([1, 2]) != Keys({"a": 1}).key([2, 1])
    assert Keys({"a": 1}).key([258]) != Keys({"a": 1}).key([2, 1])


def test_the_text_that_was_first_stays() -> None:
    with Store(IN_MEMORY) as store:
        store.put({b"k": generation("first")})
        store.put({b"k": generation("second")})
        assert store.get([b"k"])[b"k"].text == "first"


def test_a_plan_remembers_what_was_missing_until_it_is_finished() -> None:
    keys = [bytes([n]) * 16 for n in range(4)]
    with Store(IN_MEMORY) as store:
        store.put({keys[1]: generation()})
        assert store.begin(keys) == [keys[0], keys[2], keys[3]]
        store.put({keys[0]: generation()})
        assert store.begin(keys) == [keys[0], keys[2], keys[3]]
        store.finish(keys)
        assert store.begin(keys) == [keys[2], keys[3]]


def test_two_processes_write_at_once_and_batches_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "shared.sqlite"
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, name, str(path)]) for name in ("one", "two")]
    assert [writer.wait(600) for writer in writers] == [0, 0]
    keys = Keys({"model": "m"})
    with Store(path) as store:
        found = store.get(keys.key([n]) for n in range(180))
        texts = [found[keys.key([n])].text for n in range(180)]
    assert len(found) == 180
    assert [text.split()[1] for text in texts] == [str(n // 3) for n in range(180)]
    assert all(len(set(texts[at : at + 3])) == 1 for at in range(0, 180, 3))


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match=r"damaged or not a store.*--store"):
        Store(path)


def test_a_damaged_store_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.put({bytes([n]) * 16: generation("x" * 500) for n in range(200)})
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(InputError, match="damaged"), Store(path) as store:
        store.get(bytes([n]) * 16 for n in range(200))


@pytest.mark.parametrize("column", ["text", "prompt_tokens", "stopped"])
def test_a_value_of_another_type_is_a_clear_error(tmp_path: Path, column: str) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.put({b"k": generation()})
        store._db.execute(f"UPDATE generations SET {column} = ?", (b"\xff",))
        with pytest.raises(InputError, match=rf"generations\.{column} holds no .*\.recover"):
            store.get([b"k"])


def test_a_text_that_is_not_utf_8_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.put({b"k": generation()})
        store._db.execute("UPDATE generations SET text = CAST(x'ff41' AS TEXT)")
        with pytest.raises(InputError, match="damaged or not a store"):
            store.get([b"k"])


def test_a_table_of_other_columns_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store._db.execute("ALTER TABLE generations DROP COLUMN stopped")
    with Store(path) as store, pytest.raises(InputError, match="no such column"):
        store.get([b"k"])


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(InputError, match="no store of this version"):
        Store(path)


def test_a_full_disk_is_a_partial_run_and_keeps_what_was_there() -> None:
    with Store(IN_MEMORY) as store:
        store.put({b"k": generation()})
        store._db.execute("PRAGMA max_page_count = 4")
        with pytest.raises(OutputFailed, match="No space"):
            store.put({b"l": generation("x" * 100_000)})
        assert list(store.get([b"k", b"l"])) == [b"k"]


def test_a_folder_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed):
        Store(tmp_path)


def test_a_store_that_stays_locked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trec_cli.core.database._WAIT_SECONDS", 0.05)
    path = tmp_path / "s.sqlite"
    with Store(path) as first, Store(path) as second:
        first._db.execute("BEGIN IMMEDIATE")
        with pytest.raises(PartialError, match="locked by another process"):
            second.put({b"k": generation()})
        first._db.execute("ROLLBACK")


def test_a_store_takes_over_what_another_holds(tmp_path: Path) -> None:
    one, other = tmp_path / "one.sqlite", tmp_path / "other.sqlite"
    first, second = Generation("first", 1, 1, True), Generation("second", 2, 2, False)
    with Store(other) as store:
        store.put({b"a": second, b"b": second})
    with Store(one) as store:
        store.put({b"a": first})
        store.absorb(other)
        store.absorb(other)
        assert store.get([b"a", b"b"]) == {b"a": first, b"b": second}


def test_a_damaged_store_to_take_over_is_named(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    other.write_bytes(b"no store" * 1000)
    with Store(tmp_path / "one.sqlite") as store:
        with pytest.raises(InputError, match=r"other\.sqlite: is damaged"):
            store.absorb(other)
        store.put({b"a": Generation("still works", 1, 1, True)})
