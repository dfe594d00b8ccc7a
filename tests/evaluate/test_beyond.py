"""Coverage, Gini, novelty and diversity against values worked out by hand."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.evaluate.folder import line, make_run, write
from trec_cli.commands.app import app
from trec_cli.core.records import Item
from trec_cli.evaluate.beyond import Diversity, Shelf, beyond, coverage, gini, novelty, top
from trec_cli.evaluate.scores import ScoresFile, ScoresLine


def record(scores: list[float], example: str = "u") -> ScoresLine:
    return ScoresLine(
        user_id=example,
        split="test",
        candidates=[f"i{index}" for index in range(len(scores))],
        scores=scores,
        positives=["i0"],
    )


def items(*titles: str) -> dict[str, Item]:
    return {f"i{n}": Item(f"i{n}", {"title": title}) for n, title in enumerate(titles)}


def test_the_best_come_first() -> None:
    assert top(record([0.1, 0.9, 0.5, 0.7]), 2, 0) == ["i1", "i3"]
    assert top(record([0.1, 0.9]), 5, 0) == ["i1", "i0"]


def test_a_hash_decides_among_equals_and_not_the_order_of_the_list() -> None:
    first = {tuple(top(record([1, 1, 1, 0], f"u{n}"), 1, 0)) for n in range(40)}
    assert first == {("i0",), ("i1",), ("i2",)}
    straight = record([2, 1, 1, 1])
    turned = ScoresLine(
        user_id="u",
        split="test",
        candidates=straight.candidates[::-1],
        scores=straight.scores[::-1],
        positives=["i0"],
    )
    assert set(top(straight, 3, 0)) == set(top(turned, 3, 0))


def test_coverage_is_the_share_of_listed_items() -> None:
    assert coverage({"a": 5, "b": 1}, 8) == 0.25


@pytest.mark.parametrize(
    ("counts", "number", "value"),
    [
        ({"a": 3, "b": 3, "c": 3}, 3, 0.0),
        ({"a": 1}, 4, 0.75),
        ({"a": 1, "b": 3}, 2, 0.25),
        ({"a": 1, "b": 3}, 4, (1 * 1 + 3 * 3) / 16),
    ],
)
def test_gini_counts_items_that_nobody_gets(
    counts: dict[str, int], number: int, value: float
) -> None:
    assert gini(counts, number) == pytest.approx(value)


def test_novelty_is_mean_self_information_and_unknown_items_have_one_user() -> None:
    shelf = Shelf({}, {"a": 4, "b": 16}, users=16)
    assert novelty(["a", "b", "new"], shelf) == pytest.approx((2 + 0 + 4) / 3)


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    diversity = Diversity(items("red tea", "red tea", "blue cup", "blue cup"))
    assert diversity(["i0", "i1"]) == pytest.approx(0, abs=1e-12)
    assert diversity(["i0", "i2"]) == pytest.approx(1)
    assert diversity(["i0", "i1", "i2"]) == pytest.approx(2 / 3)
    assert math.isnan(diversity(["i0"]))
    assert math.isnan(diversity(["i0", "elsewhere"]))


def test_a_system_that_says_the_same_to_all_covers_little(tmp_path: Path) -> None:
    same = [line(f"u{n}", [3, 2, 1, 0]) for n in range(4)]
    turned = [line(f"u{n}", [float((n + m) % 4) for m in range(4)]) for n in range(4)]
    files = [
        ScoresFile("same", write(tmp_path / "a.jsonl", same)),
        ScoresFile("turned", write(tmp_path / "b.jsonl", turned)),
    ]
    found = beyond(files, "test", Shelf(items("a", "b", "c", "d")), 1, 0)
    assert found["same"]["coverage@1"] == 0.25
    assert found["turned"]["coverage@1"] == 1
    assert found["turned"]["gini@1"] == 0
    assert found["same"]["novelty@1"] is None, "no training users"
    assert found["same"]["diversity@1"] is None, "one item is no pair"


def test_the_option_shows_and_writes_the_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    fast = ("--bootstrap", "9", "--permutations", "9", "--no-audit")
    result = CliRunner().invoke(app, ["eval", str(run), "--beyond", "--k", "2", *fast])
    assert result.exit_code == 0, result.stderr
    assert "Beyond accuracy" in result.stdout
    found = json.loads((run / "metrics.json").read_text())["beyond"]
    assert set(found["good"]) == {"coverage@2", "gini@2", "novelty@2", "diversity@2"}
    assert "Beyond accuracy" in (run / "report.html").read_text()


def test_without_items_the_option_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "scores-x.jsonl", [line("u", [1, 2])])
    result = CliRunner().invoke(app, ["eval", "--scores", str(path), "--beyond"])
    assert result.exit_code == 2
    assert "--beyond needs items.jsonl" in result.stderr


PEERS = json.loads((Path(__file__).parent / "peer_metrics.json").read_text())
"""A small input, and what RecTools and LensKit say of it (benchmarks/peers/metrics.py)."""


def test_metrics_are_those_of_rectools_and_lenskit(tmp_path: Path) -> None:
    texts, lists = PEERS["texts"], PEERS["lists"]
    write(tmp_path / "items.jsonl", [{"item_id": i, "title": t} for i, t in texts.items()])
    scored = [
        {
            "example_id": entry["user"], "user_id": entry["user"], "split": "test",
            "candidates": entry["items"], "scores": entry["scores"], "positives": entry["right"],
        }
        for entry in lists
    ]  # fmt: skip
    write(tmp_path / "scores-x.jsonl", scored)
    taken = [
        {
            "example_id": user, "user_id": user, "split": "train", "history": items[:-1],
            "candidates": [items[-1]], "positives": items[-1:],
        }
        for user, items in PEERS["train"].items()
    ]  # fmt: skip
    kept = ("example_id", "user_id", "split", "candidates", "positives")
    asked = [{**{name: entry[name] for name in kept}, "history": []} for entry in scored]
    write(tmp_path / "examples.jsonl", [*taken, *asked])
    options = ["--metrics", "all", "--beyond", "--no-report", "--no-audit", "--bootstrap", "0"]
    result = CliRunner().invoke(app, ["eval", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for k in (3, 5, 10):
        for name in ("hit", "precision", "recall", "map", "mrr"):
            value = metrics["systems"]["x"][f"{name}@{k}"]["value"]
            assert value == pytest.approx(PEERS["metrics"][f"{name}@{k}"], abs=1e-12), (name, k)
    for name in ("coverage", "novelty", "diversity", "gini"):
        value = metrics["beyond"]["x"][f"{name}@10"]
        assert value == pytest.approx(PEERS["metrics"][f"{name}@10"], abs=1e-9), name


@pytest.mark.parametrize("k", [3, 5])
def test_shorter_lists_are_those_of_rectools_and_lenskit_too(tmp_path: Path, k: int) -> None:
    catalogue = {i: Item(i, {"title": text}) for i, text in PEERS["texts"].items()}
    takers = Counter(item for items in PEERS["train"].values() for item in items)
    scored = [
        {
            "user_id": entry["user"], "split": "test", "candidates": entry["items"],
            "scores": entry["scores"], "positives": entry["right"],
        }
        for entry in PEERS["lists"]
    ]  # fmt: skip
    file = ScoresFile("x", write(tmp_path / "scores-x.jsonl", scored))
    shelf = Shelf(catalogue, takers, len(PEERS["train"]))
    for name, value in beyond([file], "test", shelf, k, 0)["x"].items():
        assert value == pytest.approx(PEERS["metrics"][name], abs=1e-9), name
