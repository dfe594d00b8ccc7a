import gzip
import os
import tempfile
import zipfile
from pathlib import Path

import pytest

from trec_cli.core.errors import InputError, PartialError
from trec_cli.core.jsonl import read_items
from trec_cli.prepare.archive import Source
from trec_cli.prepare.unpacked import UnpackedFolder


def names(path: Path, pattern: str) -> list[str]:
    with Source(path) as source:
        return [str(member.name) for member in source.find(pattern)]


def content(path: Path, pattern: str, *, plain: bool = False) -> bytes:
    with Source(path) as source:
        (member,) = source.find(pattern)
        with source.reading(member, plain=plain) as file:
            return file.read_bytes()


def test_files_are_found_wherever_they_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "news.tsv").write_text("x")
    assert names(tmp_path, r"news\.tsv") == ["deep/er/news.tsv"]


def test_a_zip_is_read_with_and_without_a_folder_inside(tmp_path: Path) -> None:
    for inner in ("MINDsmall_train/news.tsv", "news.tsv"):
        path = tmp_path / "MINDsmall_train.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(inner, "text")
            archive.writestr("__MACOSX/._news.tsv", "junk")
        assert names(path, r"news\.tsv") == ["MINDsmall_train/news.tsv"]
        assert content(path, r"news\.tsv") == b"text"


def test_zips_in_a_folder_and_gz_in_a_zip_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("x/items.jsonl.gz", gzip.compress(b"inside"))
    assert names(tmp_path, r"items\.jsonl") == ["x/items.jsonl"]
    assert content(tmp_path, r"items\.jsonl", plain=True) == b"inside"
    assert gzip.decompress(content(tmp_path, r"items\.jsonl")) == b"inside"


def test_a_plain_file_goes_before_its_gz_and_its_zip(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_bytes(b"plain")
    (tmp_path / "items.jsonl.gz").write_bytes(gzip.compress(b"packed"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/items.jsonl", "zipped")
        archive.writestr("b/items.jsonl", "zipped")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "items.jsonl").write_bytes(b"unpacked")
    assert names(tmp_path, r"items\.jsonl") == ["a/items.jsonl", "b/items.jsonl", "items.jsonl"]
    assert content(tmp_path / "items.jsonl", r"items\.jsonl") == b"plain"


def test_a_named_file_finds_its_neighbours_and_goes_before_its_likes(tmp_path: Path) -> None:
    for name in ("one.json", "two.json", "meta.json"):
        (tmp_path / name).write_text("")
    assert names(tmp_path / "two.json", r"(one|two)\.json") == ["two.json"]
    assert names(tmp_path / "two.json", r"meta\.json") == ["meta.json"]


def test_a_gz_beside_a_csv_reader_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x,y\n"))
    assert content(tmp_path, r"a\.csv", plain=True) == b"x,y\n"


def test_the_temporary_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with Source(tmp_path) as source, source.reading(source.find(r"a\.txt")[0]) as file:
        assert file.exists()
    assert not file.parent.exists()


def test_faults_in_a_zip_name_the_zip_and_what_is_inside(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("items.jsonl", '{"item_id": "1"}\n{"item_id": 2}\n')
    with Source(tmp_path) as source:
        (member,) = source.find(r"items\.jsonl")
        with pytest.raises(InputError) as caught, source.reading(member) as file:
            read_items(file)
    assert f"{tmp_path / 'a.zip'}:items.jsonl, line 2:" in str(caught.value)


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        Source(tmp_path / "nothing")
    (tmp_path / "broken.zip").write_bytes(b"PK but not really")
    with pytest.raises(InputError, match=r"broken\.zip: is not a readable \.zip"):
        Source(tmp_path)


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_truncated_gz_is_said_to_be_damaged(tmp_path: Path, keep: float) -> None:
    packed = gzip.compress(bytes(range(256)) * 100)
    (tmp_path / "a.csv.gz").write_bytes(packed[: int(len(packed) * keep)])
    with pytest.raises(InputError, match="compressed file is damaged"):
        content(tmp_path, r"a\.csv", plain=True)


def test_a_bomb_stops_at_the_limit_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TREC_MAX_UNPACKED", str(1 << 20))
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("plain.csv", bytes(2 << 20))
        archive.writestr("packed.csv.gz", gzip.compress(bytes(2 << 20)))
    for pattern in (r"plain\.csv", r"packed\.csv"):
        with pytest.raises(InputError, match="expands to more than 1,048,576 bytes"):
            content(tmp_path, pattern, plain=True)
    assert list(temporary.iterdir()) == []


def test_the_limit_can_be_raised_and_lowered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x" * 1000))
    monkeypatch.setenv("TREC_MAX_UNPACKED", "999")
    with pytest.raises(InputError, match=r"a\.csv\.gz: expands to more than 999 bytes"):
        content(tmp_path, r"a\.csv", plain=True)
    monkeypatch.setenv("TREC_MAX_UNPACKED", "1000")
    assert len(content(tmp_path, r"a\.csv", plain=True)) == 1000


def test_an_encrypted_zip_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("items.jsonl", "{}")
    raw = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"a\.zip: is encrypted \(unpack it"):
        Source(path)


def test_long_names_and_paths_in_a_zip_are_unpacked(tmp_path: Path) -> None:
    inner = "/".join(["folder" * 20] * 3) + "/items.jsonl"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(inner, "text")
        archive.writestr("ü" * 240 + ".txt", "other")
        archive.writestr("../../outside.txt", "inside")
    assert content(tmp_path, r"items\.jsonl") == b"text"
    assert content(tmp_path, r"ü+\.txt") == b"other"
    assert names(tmp_path, r"outside\.txt") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_what_a_killed_run_left_goes_when_the_next_unpacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, alive = tmp_path / "trec-prepare-4194999-x", tmp_path / f"trec-prepare-{os.getpid()}-x"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "a.csv").write_text("x")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.csv", "text")
    assert content(tmp_path / "a.zip", r"b\.csv") == b"text"
    assert alive.exists()
    assert not dead.exists()


def test_a_full_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x"))
    monkeypatch.setattr("shutil.copyfileobj", full)
    folder = UnpackedFolder()
    with pytest.raises(PartialError, match=r"cannot unpack a\.csv\.gz .* set TMPDIR"):
        folder.path_of(tmp_path / "a.csv.gz", None, "a.csv.gz", unpack_gz=True)
    folder.remove()


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_said_to_be_damaged_whatever_its_method(
    tmp_path: Path, method: int
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.csv", "some text, " * 500)
    whole = path.read_bytes()
    assert content(path, r"a\.csv") == b"some text, " * 500
    for start in range(38, len(whole) - 4, 3):
        path.write_bytes(whole[:start] + b"\xff\xff" + whole[start + 2 :])
        try:
            content(path, r"a\.csv")
        except InputError as error:
            found = str(error)
            assert "damaged" in found or "not a readable" in found or "encrypted" in found
        except ValueError:  # the name itself was damaged: nothing matches the pattern
            continue
