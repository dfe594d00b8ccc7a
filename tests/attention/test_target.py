"""Target attention: weights for any candidate, evidence in time order, the file of vectors."""

import math
from pathlib import Path

import numpy as np
import pytest

from trec_cli.attention.evidence import Evidence, Passage
from trec_cli.attention.target import (
    TargetAttention,
    TargetSettings,
    find_target,
    read_vectors,
    vectors_path,
)
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Attention, Block, Example, Mode, Query, Summary
from trec_cli.models.vectors import ItemVectors

NAMES = ["tea", "pot", "jazz", "日本", "none"]
MATRIX = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8], [0, 0]], np.float32)
VECTORS = ItemVectors({name: row for row, name in enumerate(NAMES)}, MATRIX)
TARGET = TargetAttention(VECTORS, TargetSettings(temperature=0.5, top_k=2, budget=10))
HISTORY = ["tea", "pot", "jazz", "jazz", "日本"]


def blocks(*texts: str) -> list[Block]:
    spans = [(0, 2), (2, 4), (4, 5)]
    return [
        Block(level=0, start=start, end=end, summary=text)
        for (start, end), text in zip(spans, texts, strict=False)
    ]


def summary(query: Query | None, number: int = 0, mode: Mode = "attention") -> Summary:
    attention = Attention(query=query, keys=[], weights=[]) if query else None
    return Summary(
        example_id=f"e{number}",
        user_id="u",
        split="test",
        mode=mode,
        summary="",
        blocks=[],
        model="m",
        attention=attention,
    )


def test_each_candidate_weighs_the_blocks_by_its_own_vector() -> None:
    weights = TARGET.weights(HISTORY, blocks("a", "b", "c"), ["pot", "jazz"])
    # Keys: east, north, (.6, .8); cosines over 0.5.
    east = [math.exp(2), 1.0, math.exp(1.2)]
    north = [1.0, math.exp(2), math.exp(1.6)]
    assert weights[0] == pytest.approx(np.array(east) / sum(east), abs=1e-5)
    assert weights[1] == pytest.approx(np.array(north) / sum(north), abs=1e-5)


def test_evidence_is_the_strongest_blocks_in_time_order() -> None:
    first, second = TARGET.evidence(HISTORY, blocks("a", "b", "c"), ["pot", "jazz"])
    assert [passage.text for passage in first.passages] == ["a", "c"]
    assert [passage.text for passage in second.passages] == ["b", "c"]
    assert second.passages[0].weight > second.passages[1].weight
    assert second.budget == 10


def test_a_candidate_without_text_asks_all_blocks_alike_and_the_newest_speak() -> None:
    (evidence,) = TARGET.evidence(HISTORY, blocks("a", "b", "c"), ["none"])
    assert [p.text for p in evidence.passages] == ["b", "c"]
    assert evidence.passages[0].weight == evidence.passages[1].weight == pytest.approx(1 / 3)


def test_empty_summaries_never_speak() -> None:
    (evidence,) = TARGET.evidence(HISTORY, blocks("", "b", ""), ["pot"])
    assert evidence.passages == [Passage("b", 1.0)]
    (nothing,) = TARGET.evidence(HISTORY, blocks("", "", ""), ["pot"])
    assert nothing.passages == []


def test_an_empty_history_gives_no_evidence() -> None:
    assert TARGET.evidence([], [], ["pot", "tea"]) == [Evidence([], 10)] * 2
    assert TARGET.weights([], [], ["pot", "tea"]).shape == (2, 0)


def test_vectors_come_back_as_they_were_written_with_the_same_bytes(tmp_path: Path) -> None:
    content = TARGET.encoded({"name": "minilm", "revision": "1"})
    assert content == TARGET.encoded({"revision": "1", "name": "minilm"})
    (tmp_path / "v.safetensors").write_bytes(content)
    read = read_vectors(tmp_path / "v.safetensors")
    assert list(read.vectors.rows) == NAMES
    assert (read.vectors.matrix == MATRIX).all()
    assert read.settings == TARGET.settings
    assert read.files == [tmp_path / "v.safetensors"]


@pytest.mark.parametrize("content", [b"", b"garbage" * 99])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds no vectors"):
        read_vectors(path)


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": MATRIX}, tmp_path / "v.safetensors")
    with pytest.raises(InputError, match="holds no vectors"):
        read_vectors(tmp_path / "v.safetensors")


def test_missing_vectors_say_what_to_do(tmp_path: Path) -> None:
    summaries = {"e0": summary("candidate")}
    with pytest.raises(InputError, match="--query candidate again"):
        find_target(summaries, tmp_path / "summaries-attention.jsonl", None)


def test_summaries_of_other_queries_need_no_vectors(tmp_path: Path) -> None:
    for record in (summary("recent"), summary(None, mode="hier")):
        assert find_target({"e0": record}, tmp_path / "s.jsonl", None) is None
    assert find_target(None, None, None) is None


def test_mixed_queries_are_refused(tmp_path: Path) -> None:
    mixed = {"e0": summary("candidate"), "e1": summary("recent", 1)}
    with pytest.raises(InputError, match="several queries"):
        find_target(mixed, tmp_path / "s.jsonl", None)


def test_a_stream_needs_the_vectors_named() -> None:
    assert vectors_path(Path("-")) is None
    assert vectors_path(Path("r/summaries-attention.jsonl")) == Path(
        "r/summaries-attention.vectors.safetensors"
    )
    with pytest.raises(UsageError, match="--vectors"):
        find_target({"e0": summary("candidate")}, Path("-"), None)


def test_items_without_a_vector_are_listed() -> None:
    example = Example(
        example_id="e",
        user_id="u",
        split="test",
        history=["tea", "new"],
        candidates=["pot", "newer"],
        positives=["pot"],
    )
    assert TARGET.missing(example) == ["new", "newer"]
