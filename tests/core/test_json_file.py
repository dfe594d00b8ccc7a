"""Small JSON files: whatever is wrong with one is one kind of error."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from trec_cli.core.json_file import decode_json, key_twice, read_json

DEEP = b"[" * 5000 + b"]" * 5000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"a": ' + DEEP + b"}", "nested too deeply"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' twice"),
        (b'{"a": [{"b": 1, "b": 2}]}', "the key 'b' twice"),
    ],
)
def test_every_fault_is_a_decode_error(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(msgspec.DecodeError, match=words):
        read_json(path, dict[str, Any])


def test_a_sound_file_is_read_as_its_type(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"é": 1}', encoding="utf-8")
    assert read_json(path, dict[str, int]) == {"é": 1}
    with pytest.raises(msgspec.ValidationError):
        read_json(path, dict[str, str])


def test_a_missing_file_is_no_fault_of_its_content(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none", dict[str, int])


def test_texts_are_decoded_like_bytes() -> None:
    assert decode_json("[1, 2]", list[int]) == [1, 2]


def test_the_same_key_in_different_objects_is_no_repeat() -> None:
    assert key_twice(b'[{"a": 1}, {"a": {"a": 2}}]') == ""
    assert key_twice(b"no JSON") == ""
