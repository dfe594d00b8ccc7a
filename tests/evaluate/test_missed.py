"""Positives that were not among the candidates, and lists that are the best of a catalogue."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from tests.evaluate.folder import Line, line, write
from trec_cli.commands.app import app
from trec_cli.evaluate.metrics import Pools, all_metrics, chance, chance_metrics, rank
from trec_cli.evaluate.scores import ScoresFile, align, read_system

KS = (1, 3)


def run_eval(*arguments: object) -> Result:
    fast = ("--bootstrap", "20", "--permutations", "60")
    return CliRunner().invoke(app, ["eval", *map(str, arguments), *fast])


def asked(example: str, positives: list[str], **more: object) -> Line:
    return {**line(example, [4, 3, 2, 1], **{}), "positives": positives, **more}


def read(path: Path, lines: list[Line]) -> dict[str, list[float]]:
    system = read_system(ScoresFile("x", write(path, lines)), "test", count_missed=True)
    return {name: values.tolist() for name, values in all_metrics(system.ranks, KS).items()}


def test_a_missed_positive_has_metrics_of_zero(tmp_path: Path) -> None:
    found = read(tmp_path / "s.jsonl", [asked("a", ["i0"]), asked("b", ["elsewhere"])])
    for name, values in found.items():
        assert values == [1.0, 0.0], name


def test_one_of_two_positives_missed_counts_by_half(tmp_path: Path) -> None:
    found = read(tmp_path / "s.jsonl", [asked("a", ["i0", "elsewhere"])])
    assert found["recall@3"] == [0.5]
    assert found["mrr@3"] == [1.0], "the first positive is there"
    assert found["ndcg@3"] == pytest.approx([1 / (1 + 1 / math.log2(3))])
    assert found["auc"] == [0.5], "it loses to all three others"


def test_a_retrieval_that_found_nothing_is_a_miss_too(tmp_path: Path) -> None:
    empty = {**line("b", []), "positives": ["i0"]}
    found = read(tmp_path / "s.jsonl", [asked("a", ["i0"]), empty])
    assert found["ndcg@1"] == [1.0, 0.0]
    assert math.isnan(found["auc"][1])


def test_a_random_order_of_the_candidates_misses_what_is_not_there(tmp_path: Path) -> None:
    lines = [asked("a", ["i0", "elsewhere"]), asked("b", ["elsewhere"])]
    system = read_system(
        ScoresFile("x", write(tmp_path / "s.jsonl", lines)), "test", count_missed=True
    )
    expected = chance_metrics(system.ranks, KS)
    assert expected["recall@3"].tolist() == [0.375, 0.0]
    assert expected["auc"].tolist() == [0.25, 0.0]
    same = all_metrics(chance(system.ranks), KS)
    for name, values in same.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_by_default_a_missed_positive_is_refused_without_advice_that_inflates(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "scores-x.jsonl", [asked("a", ["i0"]), asked("b", ["elsewhere"])])
    refused = run_eval("--scores", path)
    assert refused.exit_code == 3
    assert "line 2: example 'b': positive 'elsewhere' is not among" in refused.stderr
    assert "--missed count" in refused.stderr
    assert "add it" not in refused.stderr


def test_missed_positives_are_counted_said_and_written(tmp_path: Path) -> None:
    write(tmp_path / "scores-x.jsonl", [asked("a", ["i0"]), asked("b", ["elsewhere"])])
    result = run_eval(tmp_path, "--missed", "count", "--k", 3)
    assert result.exit_code == 0, result.stderr
    assert "1 of 2 positives is not among the candidates" in result.stderr
    assert "1 of 2 right items is in no list and counts as missed" in " ".join(
        result.stdout.split()
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["protocol"]["positives_missed"] == 1
    assert metrics["systems"]["x"]["recall@3"]["value"] == 0.5
    lines = [json.loads(text) for text in (tmp_path / "per_user.jsonl").read_text().splitlines()]
    assert [entry["ranks"] for entry in lines] == [[1.0], [None]]
    assert "missed" in (tmp_path / "report.html").read_text()


def test_an_evaluation_without_missing_positives_says_so(tmp_path: Path) -> None:
    write(tmp_path / "scores-x.jsonl", [asked("a", ["i0"]), asked("b", ["i1"])])
    assert run_eval(tmp_path).exit_code == 0
    stated = json.loads((tmp_path / "metrics.json").read_text())["protocol"]
    assert (stated["positives_missed"], stated["ranking"], stated["catalogue"]) == (
        0, "candidates", None
    )  # fmt: skip


def test_the_order_of_lines_does_not_move_a_missed_positive(tmp_path: Path) -> None:
    lines = [asked("a", ["elsewhere"]), asked("b", ["i1", "elsewhere"]), asked("c", ["i2"])]
    first = read_system(
        ScoresFile("x", write(tmp_path / "x.jsonl", lines)), "test", count_missed=True
    )
    other = read_system(
        ScoresFile("y", write(tmp_path / "y.jsonl", [lines[n] for n in (1, 2, 0)])),
        "test",
        count_missed=True,
    )
    one, two = (system.ranks for system in align([first, other]))
    assert one.example.tolist() == two.example.tolist()
    assert one.expected.tolist() == two.expected.tolist() == [math.inf, 2, math.inf, 3]


@given(
    scores=st.lists(st.permutations(range(12)), min_size=1, max_size=5),
    length=st.integers(3, 12),
    positives=st.integers(1, 3),
)
def test_the_best_of_a_catalogue_give_the_metrics_of_the_whole(
    scores: list[list[int]], length: int, positives: int
) -> None:
    marks = np.arange(12) < positives
    whole = rank(Pools.of(scores, [marks] * len(scores)))
    top, at = [], []
    for number, row in enumerate(map(np.array, scores)):
        kept = np.argsort(-row)[:length]
        top.append(row[kept])
        for item in np.flatnonzero(marks):
            (place,) = np.nonzero(kept == item)
            at.append(number * length + int(place[0]) if len(place) else -1 - number)
    offsets = np.arange(0, length * len(scores) + 1, length)
    sizes = np.full(len(scores), 12)
    pools = Pools(np.concatenate(top).astype(float), offsets, np.array(at), sizes)
    cut = rank(pools)
    for name, values in all_metrics(whole, KS).items():
        if name != "auc":
            np.testing.assert_allclose(all_metrics(cut, KS)[name], values, err_msg=name)
    for name, values in chance_metrics(whole, KS).items():
        np.testing.assert_allclose(chance_metrics(cut, KS)[name], values, err_msg=name)
        np.testing.assert_allclose(all_metrics(chance(cut), KS)[name], values, err_msg=name)


def full_run(folder: Path) -> Path:
    write(folder / "items.jsonl", [{"item_id": f"i{n}", "title": "t"} for n in range(10)])
    write(folder / "scores-one.jsonl", [asked("a", ["i0"]), asked("b", ["i9"])])
    own = {"candidates": ["i9", "i5", "i0"], "scores": [3, 2, 1]}
    write(folder / "scores-two.jsonl", [asked("a", ["i0"], **own), asked("b", ["i9"], **own)])
    return folder


def test_full_ranking_compares_systems_with_lists_of_their_own(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    assert run_eval(run, "--missed", "count").exit_code == 3, "their candidates differ"
    result = run_eval(run, "--missed", "count", "--full", "--k", 1, "--k", 3)
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["systems"]["one"]["recall@3"]["value"] == 0.5
    assert metrics["systems"]["two"]["recall@3"]["value"] == 1.0
    assert metrics["systems"]["two"]["recall@1"]["value"] == 0.5
    assert metrics["chance"]["recall@3"] == pytest.approx(0.3)
    stated = metrics["protocol"]
    assert (stated["ranking"], stated["catalogue"]) == ("catalogue", 10)
    assert stated["missed_by_system"] == {"one": 1, "two": 0}


def test_metrics_beyond_a_short_list_are_called_lower_bounds(tmp_path: Path) -> None:
    result = run_eval(full_run(tmp_path), "--missed", "count", "--full", "--k", 3, "--k", 5)
    assert "lists are as short as 4: metrics at 5 are lower bounds" in result.stderr


def test_the_size_of_the_catalogue_may_stand_in_the_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "scores-x.jsonl", [asked("a", ["i9"], catalogue=20)])
    result = run_eval("--scores", path, "--missed", "count", "--json", "--k", 4)
    assert json.loads(result.stdout)["chance"]["recall@4"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("lines", "arguments", "code", "message"),
    [
        ([asked("a", ["i0"])], ("--full",), 2, "size of the catalogue is not known"),
        ([asked("a", ["i0"], catalogue=3)], (), 3, "but a catalogue of 3"),
        ([asked("a", ["i0"], catalogue=0)], (), 3, "catalogue"),
        ([asked("a", [])], ("--missed", "count"), 3, "has no positive"),
        ([asked("a", ["x", "x"])], ("--missed", "count"), 3, "has a positive twice"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, lines: list[Line], arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run_eval("--scores", write(tmp_path / "scores-x.jsonl", lines), *arguments)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr


def test_a_catalogue_smaller_than_a_list_is_refused(tmp_path: Path) -> None:
    run = full_run(tmp_path)
    write(run / "items.jsonl", [{"item_id": "i0", "title": "t"}])
    result = run_eval(run, "--missed", "count", "--full")
    assert result.exit_code == 3
    assert "catalogue of 1 item" in result.stderr
