"""The measure of usefulness, on a run worked out by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.summary_quality import (
    Data,
    bm25_scores,
    embedder,
    embedding_scores,
    main,
    rival_texts,
    usefulness,
)
from trec_cli.core.records import Example, Item

TITLES = {"t": "green tea", "k": "kitchen knife", "j": "jazz piano", "w": "wool socks"}
ITEMS = {name: Item(name, {"title": title}) for name, title in TITLES.items()}
EXAMPLE = Example(
    example_id="e",
    user_id="u",
    split="test",
    history=["t", "k"],
    candidates=["j", "w"],
    positives=["w"],
)
DATA = Data(ITEMS, [EXAMPLE])


class Words:
    """Words instead of tokens."""

    def count(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, most: int) -> str:
        return " ".join(text.split()[:most])


def test_only_words_of_the_query_score_and_unknown_ones_are_nothing() -> None:
    [[jazz, wool]] = bm25_scores(DATA, ["socks socks opera"])
    assert jazz == 0
    # idf = ln(1 + 3.5 / 1.5); all titles have two words, so tf weighs 1; twice in the query.
    assert wool == pytest.approx(2 * 1.2039728)


def test_a_query_that_finds_nothing_ranks_as_chance() -> None:
    assert usefulness(DATA, ["opera"])[0].tolist() == [1.0, 0.75, 0.5]
    assert usefulness(DATA, ["wool"])[0].tolist() == [1.0, 1.0, 1.0]


def test_rivals_have_as_many_tokens_as_the_summary() -> None:
    rivals = rival_texts(DATA, ["one two three"], Words())  # type: ignore[arg-type]
    assert rivals == {
        "titles": ["kitchen knife, green"],
        "titles from the oldest": ["green tea, kitchen"],
        "extractive": ["kitchen knife"],
    }


def test_the_script_writes_tables_and_figures(
    tmp_path: Path,
    tiny_model: Callable[..., Path],
    tiny_embedder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(name: str, records: list[dict[str, object]]) -> None:
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / name).write_text(text, encoding="utf-8")

    write("items.jsonl", [{"item_id": n, "title": t} for n, t in TITLES.items()])
    common = {"example_id": "e", "user_id": "u", "split": "test"}
    question = {"history": ["t", "k"], "candidates": ["j", "w"], "positives": ["w"]}
    write("examples.jsonl", [{**common, **question}])
    block = {"level": 0, "start": 0, "end": 2, "summary": "tea", "flags": ["extractive"]}
    answer = {"mode": "hier", "summary": "wool tea", "blocks": [block], "model": "m"}
    write("summaries-hier.jsonl", [{**common, **answer}])
    figures = tmp_path / "figures.json"
    main(
        [
            str(tmp_path),
            "--model",
            str(tiny_model()),
            "--json",
            str(figures),
            "--embedder",
            str(tiny_embedder),
        ]
    )
    result = json.loads(figures.read_text(encoding="utf-8"))["hier"]
    assert (result["faithfulness"], result["text_flags"]) == (0.5, {"extractive": 1})
    assert result["ranking"]["bm25"]["summary"]["auc"] == [1.0, 1.0, 1.0]
    assert set(result["ranking"]) == {"bm25", "embedding"}
    assert set(result["ranking"]["embedding"]) == {
        "summary",
        "titles",
        "titles from the oldest",
        "extractive",
        "summary - titles",
        "summary - titles from the oldest",
        "summary - extractive",
    }
    assert "| hier | bm25 | summary | 1.000 [1.000, 1.000]" in capsys.readouterr().out


def test_an_embedder_ranks_what_the_query_repeats_first(tiny_embedder: Path) -> None:
    with embedder(str(tiny_embedder)) as maker:
        [[jazz, wool]] = embedding_scores(maker, DATA, ["wool socks"])
        assert wool == pytest.approx(1)
        assert jazz < wool
        assert embedding_scores(maker, DATA, [""]) == [[0, 0]]
