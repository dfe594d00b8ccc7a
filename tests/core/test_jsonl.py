"""Reading JSONL: what must just work, and what every kind of bad input is told."""

import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.core import jsonl
from trec_cli.core.errors import MAX_FAULTS, InputError, UsageError
from trec_cli.core.jsonl import (
    encode,
    hashed_while_read,
    iter_sequences,
    plain_value,
    read_examples,
    read_items,
    read_lines,
    read_summaries,
)
from trec_cli.core.records import Block, Example, Item, Summary
from trec_cli.core.unpacking import LIMIT_VARIABLE, unpacked_limit
from trec_cli.evaluate.scores import read_scores

GOOD: dict[str, Any] = {
    "example_id": "e1",
    "user_id": "u1",
    "split": "test",
    "history": ["a", "b"],
    "candidates": ["c", "d"],
    "positives": ["d"],
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write lines (text, bytes or records) to a file."""

    def to_bytes(line: Any) -> bytes:
        if isinstance(line, bytes):
            return line
        return (line if isinstance(line, str) else json.dumps(line)).encode()

    def to_file(*lines: Any, end: bytes = b"\n", last: bytes | None = None) -> Path:
        path = tmp_path / "input.jsonl"
        path.write_bytes(end.join(map(to_bytes, lines)) + (end if last is None else last))
        return path

    return to_file


def _faults(read: Callable[[Path], object], path: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(path)
    return [str(fault).replace(str(path.parent), "") for fault in caught.value.faults]


def _example(**changes: Any) -> dict[str, Any]:
    return {**GOOD, **changes}


def test_items_keep_source_order_of_attributes_and_become_text(write: Write) -> None:
    path = write(
        {"item_id": "1", "title": "A\nB", "price": 9.5, "tags": ["x", None, "y"], "z": None}
    )
    item = read_items(path)["1"]
    assert list(item.attributes.items()) == [
        ("title", "A\nB"),
        ("price", "9.5"),
        ("tags", "x, y"),
        ("z", ""),
    ]
    assert item.text() == "title: A B; price: 9.5; tags: x, y"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "True"),
        (3, "3"),
        ([1, [2, ""]], "1, 2"),
        ({"rank": 3, "in": None, "of": ["a", "b"]}, "rank 3, of a, b"),
    ],
)
def test_plain_value_writes_any_json_as_text(value: object, text: str) -> None:
    assert plain_value(value) == text


@pytest.mark.parametrize(
    ("end", "last"),
    [(b"\n", b"\n"), (b"\r\n", b"\r\n"), (b"\n", b""), (b"\n\n", b"\n\n\n"), (b"\r\n\r\n", b"")],
    ids=["newlines", "CRLF", "no last newline", "blank lines", "blank CRLF lines"],
)
def test_line_ends_and_blank_lines_do_not_matter(write: Write, end: bytes, last: bytes) -> None:
    path = write(GOOD, _example(example_id="é2"), end=end, last=last)
    assert [example.example_id for example in read_examples(path)] == ["e1", "é2"]


def test_a_byte_order_mark_is_skipped(write: Write) -> None:
    path = write(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert len(read_examples(path)) == 1


def test_line_separators_of_unicode_do_not_end_a_line(write: Write) -> None:
    title = "a\u2028b\u0085c\x0bd"
    path = write(json.dumps({"item_id": "1", "title": title}, ensure_ascii=False).encode())
    assert read_items(path)["1"].title == title


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(GOOD).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(line)))
    assert read_examples("-")[0].example_id == "e1"


def test_faults_of_standard_input_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"{]\n")))
    with pytest.raises(InputError, match="standard input, line 1"):
        read_examples("-")


def test_gzip_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert len(read_examples(path)) == 1


def test_a_damaged_gzip_says_so(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 100)[:-20])
    assert "compressed file is damaged" in _faults(read_examples, path)[0]
    path.write_bytes(b"no gzip at all")
    assert "compressed file is damaged" in _faults(read_examples, path)[0]


def test_example_id_may_be_left_out(write: Write) -> None:
    fields = {name: value for name, value in GOOD.items() if name != "example_id"}
    assert read_examples(write(fields))[0].example_id == "u1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"example_id": "e1", "user_id"', "line 2: is cut off in the middle"),
        ('{"example_id": "e1",, }', "line 2: is cut off in the middle"),
        ("not json", "line 2: is cut off in the middle"),
    ],
)
def test_a_cut_off_last_line_is_named(write: Write, line: str, message: str) -> None:
    assert message in _faults(read_examples, write(GOOD, line, last=b""))[0]


def test_broken_json_in_the_middle_is_named_with_its_line(write: Write) -> None:
    faults = _faults(
        read_examples, write(GOOD, '{"example_id": }', "", "[1,", _example(example_id="e"))
    )
    assert len(faults) == 2
    assert faults[0].startswith("/input.jsonl, line 2: is not JSON")
    assert faults[1].startswith("/input.jsonl, line 4: is not JSON")
    assert "repair or remove the line" in faults[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"history": "a b"}, "`history` must be a list, not a text"),
        ({"history": ["a", 7]}, "entry 2 of `history` must be a text, not a whole number"),
        ({"user_id": 12}, "`user_id` must be a text, not a whole number"),
        ({"user_id": ""}, "`user_id` must not be empty"),
        ({"split": "dev"}, "`split` cannot be 'dev'"),
        ({"candidates": None}, "`candidates` must be a list, not null"),
    ],
)
def test_wrong_types_are_named_with_their_place(
    write: Write, changes: dict[str, Any], message: str
) -> None:
    fault = _faults(read_examples, write(_example(**changes)))[0]
    assert message in fault
    assert "docs/files.md" in fault


@pytest.mark.parametrize("name", ["user_id", "split", "history", "candidates", "positives"])
def test_a_missing_field_is_named(write: Write, name: str) -> None:
    fields = {key: value for key, value in GOOD.items() if key not in {name, "example_id"}}
    assert f"the field `{name}` is missing" in _faults(read_examples, write(fields))[0]


@pytest.mark.parametrize("user", [12, None, ""])
def test_a_wrong_user_id_is_named_though_it_stands_in_for_the_example_id(
    write: Write, user: object
) -> None:
    fields = {**GOOD, "user_id": user}
    del fields["example_id"]
    assert "`user_id` must" in _faults(read_examples, write(fields))[0]


@pytest.mark.parametrize("line", ["3", "null", '"text"', "[]"])
def test_a_line_that_is_no_object_is_a_fault(write: Write, line: str) -> None:
    assert "the line must be an object" in _faults(read_examples, write(line))[0]
    assert "the line must be an object" in _faults(read_items, write(line))[0]


@pytest.mark.parametrize("value", [None, 5, "", ["1"]])
def test_an_item_needs_an_id(write: Write, value: object) -> None:
    fault = _faults(read_items, write({"item_id": value, "title": "x"}))[0]
    assert "`item_id` must be a non-empty string" in fault


def test_ids_that_stand_twice_are_named(write: Write) -> None:
    assert _faults(read_items, write({"item_id": "1"}, {"item_id": "1"})) == [
        "/input.jsonl, line 2: item_id '1' stands twice (keep one of them)"
    ]
    assert "line 2: example 'e1': stands twice" in _faults(read_examples, write(GOOD, GOOD))[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": []}, "has no candidates"),
        ({"candidates": ["d", "d"]}, "has a candidate twice"),
        ({"positives": []}, "has no positive"),
        ({"positives": ["d", "d"]}, "has a positive twice"),
        ({"positives": ["x"]}, "positive 'x' is not among its candidates"),
    ],
)
def test_candidates_that_make_no_sense_are_named(
    write: Write, changes: dict[str, Any], message: str
) -> None:
    assert message in _faults(read_examples, write(_example(**changes)))[0]


def test_a_question_about_the_future_needs_neither_candidates_nor_positives(write: Write) -> None:
    bare = {"user_id": "u", "split": "predict", "history": ["a"]}
    (asked,) = read_examples(write(bare))
    assert (asked.example_id, asked.candidates, asked.positives) == ("u", [], [])
    (asked,) = read_examples(write({**bare, "candidates": ["c", "d"], "positives": []}))
    assert asked.candidates == ["c", "d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "predict"}, "has a positive, and split predict asks what nobody knows yet"),
        ({"split": "predict", "positives": [], "candidates": ["d", "d"]}, "a candidate twice"),
        ({"missed": ["c"]}, "'c' is missed, and yet a candidate"),
        ({"positives": [], "missed": []}, "has no positive"),
    ],
)
def test_an_answer_stands_where_it_belongs(
    write: Write, changes: dict[str, Any], message: str
) -> None:
    assert message in _faults(read_examples, write(_example(**changes)))[0]


def test_a_right_item_may_be_missed_by_retrieval(write: Write) -> None:
    (example,) = read_examples(write(_example(positives=[], missed=["x"])))
    assert (example.positives, example.missed) == ([], ["x"])


def test_unknown_ids_are_counted_and_one_is_named(write: Write) -> None:
    items = {name: Item(name, {}) for name in "abd"}
    fault = _faults(lambda path: read_examples(path, items), write(GOOD))[0]
    assert "1 ids are not in the items, for example 'c'" in fault
    assert "--unknown drop" in fault


def test_an_empty_history_and_a_single_candidate_are_fine(write: Write) -> None:
    path = write(_example(history=[], candidates=["d"]))
    assert read_examples(path)[0].history == []


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n"])
def test_an_empty_file_is_a_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    for read in (read_items, read_examples, read_summaries):
        assert "is empty" in _faults(read, path)[0]


def test_a_byte_order_mark_and_blank_lines_are_no_faults(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n \t\r\n\n{"a": 2}\r\n{"a": 3}')
    assert list(read_lines(path, json.loads)) == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def test_several_records_on_one_line_are_a_fault(write: Write) -> None:
    line = json.dumps(_example(scores=[1.0, 2.0]))
    for both in (line + line, f"{line}, {line}", f"{line} 1"):
        assert (
            "line 2: is not JSON" in _faults(lambda p: list(read_scores(p)), write(line, both))[0]
        )


def test_an_empty_file_may_be_allowed(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert list(read_lines(path, json.loads, allow_empty=True)) == []


def test_latin_1_is_named_with_the_remedy(write: Write) -> None:
    faults = _faults(read_items, write({"item_id": "0"}, '{"item_id": "é"}'.encode("latin-1")))
    assert faults == [
        "/input.jsonl, line 2: is not UTF-8 text "
        "(save the file as UTF-8, for example: iconv -f latin1 -t utf-8)"
    ]


def test_pretty_printed_json_is_one_fault_not_twenty(write: Write) -> None:
    faults = _faults(read_examples, write(json.dumps([GOOD] * 9, indent=2)))
    assert len(faults) == 1
    assert "line 1: is pretty-printed JSON" in faults[0]
    assert "jq -c" in faults[0]


def test_one_array_on_one_line_is_a_fault(write: Write) -> None:
    assert (
        "the line must be an object {…}, not a list"
        in _faults(read_examples, write(json.dumps([GOOD])))[0]
    )


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_are_named(write: Write, value: str) -> None:
    line = json.dumps(_example(scores=[1.0, float(value)]))
    assert "NaN or Infinity" in _faults(lambda p: list(read_scores(p)), write(line))[0]


def test_the_reader_stops_after_twenty_faults_and_says_so(write: Write) -> None:
    path = write(*["{]"] * 30)
    with pytest.raises(InputError) as caught:
        read_examples(path)
    assert len(caught.value.faults) == MAX_FAULTS
    assert str(caught.value).endswith(f"stopped after {MAX_FAULTS} faults")
    assert caught.value.exit_code == 3


def test_broken_lines_and_senseless_examples_are_reported_together(write: Write) -> None:
    path = write(_example(positives=[]), "{]", _example(example_id="e2", candidates=[]))
    faults = _faults(read_examples, path)
    assert [fault.split(":")[0] for fault in faults] == [
        "/input.jsonl, line 1",
        "/input.jsonl, line 2",
        "/input.jsonl, line 3",
    ]


def test_a_missing_file_and_a_folder_are_explained(tmp_path: Path) -> None:
    assert "no such file" in _faults(read_items, tmp_path / "none.jsonl")[0]
    assert "is a folder" in _faults(read_items, tmp_path)[0]


def test_summaries_are_found_by_example(write: Write) -> None:
    block = Block(level=0, start=0, end=2, summary="likes\ntea")
    summary = Summary(
        example_id="e1",
        user_id="u1",
        split="test",
        mode="hier",
        summary="s",
        blocks=[block],
        model="m",
    )
    line = encode(summary).rstrip(b"\n")
    assert read_summaries(write(line)) == {"e1": summary}
    assert "'e1' stands twice" in _faults(read_summaries, write(line, line))[0]


def test_a_summary_made_elsewhere_needs_its_example_and_its_text_alone(write: Write) -> None:
    summaries = read_summaries(
        write({"example_id": "e1", "summary": "tea"}, {"user_id": "u2", "summary": "鮨\nlamps"})
    )
    assert [(s.example_id, s.summary, s.mode, s.blocks) for s in summaries.values()] == [
        ("e1", "tea", "", []),
        ("u2", "鮨\nlamps", "", []),
    ]


def test_a_summary_without_example_or_text_is_a_fault(write: Write) -> None:
    faults = _faults(read_summaries, write({"summary": "tea"}, {"example_id": "e1"}))
    assert "line 1: the field `example_id` is missing" in faults[0]
    assert "line 2: the field `summary` is missing" in faults[1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"blocks": [{"level": 0, "start": 5, "end": 3, "summary": ""}]}, "block 1 ends at item 3"),
        ({"blocks": [{"level": 0, "start": 2, "end": 2, "summary": ""}]}, "starts at item 2"),
        (
            {"attention": {"query": "recent", "keys": [{"start": 1, "end": 0}], "weights": [1]}},
            "key 1 ends at item 0, but starts at item 1",
        ),
        (
            {"attention": {"query": "recent", "keys": [{"start": 0, "end": 1}], "weights": []}},
            "attention has 0 weights for 1 keys",
        ),
        (
            {
                "attention": {
                    "query": "candidate",
                    "keys": [{"start": 0, "end": 1}],
                    "weights": [1],
                    "candidates": [[[1, 0.5]]],
                }
            },
            "attention names a key that is none of its 1",
        ),
    ],
)
def test_blocks_and_weights_that_make_no_sense_are_named(
    write: Write, wrong: dict[str, Any], said: str
) -> None:
    fault = _faults(read_summaries, write({"example_id": "e1", "summary": "tea", **wrong}))[0]
    assert "line 1: example 'e1'" in fault
    assert said in fault


def test_the_start_of_a_history_is_written_where_it_is_not_zero() -> None:
    example = msgspec.convert({**GOOD, "start": 12}, Example)
    assert json.loads(encode(example)) == {**GOOD, "start": 12}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**GOOD, "start": -1}, Example)


def test_sequences_are_given_with_their_lines(write: Write) -> None:
    path = write("", {"user_id": "u", "items": ["a"], "more": 1})
    line, sequence = next(iter_sequences(path))
    assert (line, sequence.items, sequence.random_candidates) == (2, ["a"], None)


def test_none_is_left_out_of_what_is_written() -> None:
    line = encode(msgspec.convert(GOOD, Example))
    assert line.endswith(b"\n")
    assert json.loads(line) == GOOD


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "item_id"), st.text(max_size=20), max_size=4
    )
)
def test_any_item_is_one_line_and_reads_back(tmp_path_factory: Any, texts: dict[str, str]) -> None:
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    line = encode(Item("i", texts))
    assert line.count(b"\n") == 1
    path.write_bytes(line)
    assert read_items(path) == {"i": Item("i", texts)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"item_id": ' + b"[" * 90_000 + b"]" * 90_000 + b"}\n",
            "line 1: is nested too deeply",
        ),
        (b'{"item_id": "a", "title": "\\ud83c"}\n', "holds half a character, \\ud83c without"),
        (b'{"item_id": "a", "title": "x \\udf89"}\n', "holds half a character, \\udf89 without"),
        (b'{"item_id": "a", "item_id": "b"}\n', "line 1: has the key 'item_id' twice"),
        (b'{"item_id": "a", "x": {"b": 1, "b": 2}}\n', "line 1: has the key 'b' twice"),
        (b"\n" * 1002, "line 1001: is one of over 1,000 blank lines"),
        (b"x" * 200_001, "line 1: is longer than 200,001 bytes"),
    ],
)
def test_lines_without_sense_or_end_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.setattr(jsonl, "_MOST_BLANK", 1000)
    monkeypatch.setattr(jsonl, "_LONGEST_LINE", 200_001)
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_items(path)
    assert message in str(caught.value)


def test_a_gz_expands_no_further_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "items.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"item_id": "a"}\n'))
    monkeypatch.setenv(LIMIT_VARIABLE, "17")
    assert list(read_items(path)) == ["a"]
    monkeypatch.setenv(LIMIT_VARIABLE, "16")
    with pytest.raises(InputError, match="expands to more than 16 bytes"):
        read_items(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "many")
    with pytest.raises(UsageError, match="TREC_MAX_UNPACKED=many: write a number of bytes"):
        read_items(path)


def test_the_limit_is_a_hundred_times_the_size_and_256_mib_at_least() -> None:
    assert unpacked_limit(7) == 256 << 20
    assert unpacked_limit(1 << 30) == 100 << 30


def test_a_whole_emoji_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "a", "title": "\\ud83c\\udf89"}\n')
    assert read_items(path)["a"].title == "🎉"


@settings(max_examples=20)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=30), st.booleans())
def test_a_file_is_hashed_while_it_is_read(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], packed: bool
) -> None:
    content = b"".join(msgspec.json.encode(text) + b"\n" for text in texts)
    path = tmp_path_factory.mktemp("hashed") / ("lines.jsonl.gz" if packed else "lines.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    with hashed_while_read() as hashes:
        read = [record for _, record in read_lines(path, msgspec.json.Decoder(str).decode)]
    assert read == texts
    assert hashes == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}


def test_what_is_not_read_to_its_end_has_no_hash(write: Write) -> None:
    path = write(*(json.dumps({"n": n, "text": "x" * 1000}) for n in range(5000)))
    with hashed_while_read() as hashes:
        next(read_lines(path, msgspec.json.decode))
    assert hashes == {}
