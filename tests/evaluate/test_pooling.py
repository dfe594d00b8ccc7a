"""Several seeds of one system as one."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.evaluate.folder import Line, line, write
from trec_cli.core.errors import UsageError
from trec_cli.evaluate.paper import markdown
from trec_cli.evaluate.results import (
    Evaluation,
    evaluate_systems,
    per_user_lines,
    pool_runs,
    split_seed,
    summarise,
)
from trec_cli.evaluate.scores import ScoresFile, align, read_system
from trec_cli.evaluate.settings import Options
from trec_cli.evaluate.statistics import UserSums, bootstrap, interval
from trec_cli.evaluate.tables import terminal_table

BASE = [line("a", [1, 2]), line("b", [1, 2]), line("c", [2, 1])]
FIRST = [line("a", [2, 1]), line("b", [1, 2]), line("c", [2, 1])]
SECOND = [line("a", [2, 1]), line("b", [2, 1]), line("c", [2, 1])]


def evaluation_of(folder: Path, *, pool: bool = True, **systems: list[Line]) -> Evaluation:
    files = [
        ScoresFile(name, write(folder / f"{name}.jsonl", lines))
        for name, lines in ((n.replace("_", "@"), lines) for n, lines in systems.items())
    ]
    return evaluate_systems(align([read_system(f, "test") for f in files]), (1,), pool=pool)


def seeds(folder: Path, *, pool: bool = True) -> Evaluation:
    return evaluation_of(folder, pool=pool, base=BASE, hier_2=SECOND, hier_10=FIRST)


def test_a_name_ends_with_its_seed() -> None:
    assert split_seed("hier@12") == ("hier", "12")
    assert split_seed("a@b@3") == ("a@b", "3")
    assert [split_seed(name)[1] for name in ("hier", "hier@", "@1", "hier@1b")] == [None] * 4
    assert split_seed("hier@01")[1] is None, "else it and hier@1 would be one seed twice"


def test_runs_are_pooled_in_the_order_of_their_seeds() -> None:
    assert pool_runs(["x@10", "y", "x@2"]) == {"x": [2, 0], "y": [1]}
    assert pool_runs(["x@10", "x@2"], pool=False) == {"x@10": [0], "x@2": [1]}


def test_a_run_without_seed_beside_some_with_is_asked_about() -> None:
    with pytest.raises(UsageError, match="call it x@SEED too"):
        pool_runs(["x", "x@1"])
    assert pool_runs(["x", "x@1"], pool=False) == {"x": [0], "x@1": [1]}


def test_the_value_is_the_mean_over_seeds_with_their_spread(tmp_path: Path) -> None:
    """Recall@1 is 3/3 with seed 2 and 2/3 with seed 10: mean 5/6, deviation 1/3/sqrt(2)."""
    entry = summarise(seeds(tmp_path), Options((1,), 10, 10))["systems"]["hier"]
    assert entry["seeds"] == ["2", "10"]
    assert entry["examples"] == 3
    recall = entry["recall@1"]
    assert recall["value"] == pytest.approx(5 / 6)
    assert recall["by_seed"] == pytest.approx([1, 2 / 3])
    assert recall["seed_sd"] == pytest.approx(1 / 3 / np.sqrt(2))


def test_the_interval_is_over_users_of_the_mean_over_seeds(tmp_path: Path) -> None:
    evaluation = seeds(tmp_path)
    found = summarise(evaluation, Options((1,), 500, 0, seed=4))["systems"]["hier"]["recall@1"]
    means = np.array([[[1.0], [0.5], [1.0]]])
    low, high = interval(bootstrap(UserSums.of(means, ["a", "b", "c"]), 500, 4))
    assert (found["low"], found["high"]) == (low.item(), high.item())


def test_paired_tests_are_of_the_mean_over_seeds(tmp_path: Path) -> None:
    """Differences from the base of users a, b, c are 1, 1/2 and 0."""
    (recall, *_) = summarise(seeds(tmp_path), Options((1,), 10, 4000))["comparisons"]
    assert (recall["system"], recall["reference"]) == ("hier", "base")
    assert recall["difference"] == pytest.approx(0.5)
    assert recall["effect_size"] == pytest.approx(1.0)
    assert recall["p"] == pytest.approx(0.5, abs=0.03)


def test_tie_rates_are_averaged_over_seeds(tmp_path: Path) -> None:
    tied = [line("a", [1, 1]), line("b", [1, 1]), line("c", [2, 1])]
    evaluation = evaluation_of(tmp_path, x_1=tied, x_2=FIRST)
    assert summarise(evaluation, Options((1,), 0, 0))["systems"]["x"]["tie_rate"] == 1 / 3


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    entry = summarise(evaluation_of(tmp_path, x_1=FIRST), Options((1,), 0, 0))["systems"]["x"]
    assert entry["recall@1"]["seed_sd"] is None
    assert entry["recall@1"]["by_seed"] == [entry["recall@1"]["value"]]


def test_unpooled_runs_are_systems(tmp_path: Path) -> None:
    summary = summarise(seeds(tmp_path, pool=False), Options((1,), 0, 0))
    assert list(summary["systems"]) == ["base", "hier@2", "hier@10"]
    assert "seed_sd" not in summary["systems"]["hier@2"]["recall@1"]


def test_per_user_lines_keep_the_seeds_apart(tmp_path: Path) -> None:
    rows = [msgspec.json.decode(row) for row in per_user_lines(seeds(tmp_path))]
    kept = [(r["system"], r.get("seed"), r["example_id"], r["recall@1"]) for r in rows]
    assert kept[:4] == [("base", None, "a", 0), ("base", None, "b", 0), ("base", None, "c", 1),
                        ("hier", "2", "a", 1)]  # fmt: skip
    assert kept[7] == ("hier", "10", "b", 0)


def test_tables_show_seeds_and_spread(tmp_path: Path) -> None:
    summary = summarise(seeds(tmp_path), Options((1,), 10, 0))
    text = markdown(summary)
    assert "hier (2 seeds)" in text
    assert "±0.236" in text
    assert "between seeds" in text
    assert terminal_table(summary).row_count == 3
