"""Metrics of the whole catalogue estimated from sampled negatives."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.evaluate.folder import line, make_run, write
from trec_cli.commands.app import app
from trec_cli.core.errors import UsageError
from trec_cli.evaluate.corrected import corrected, corrected_metrics
from trec_cli.evaluate.metrics import Floats, Pools, rank

ITEMS, NEGATIVES = 1000, 50


def recall_at_10(ranks: Floats) -> Floats:
    return (ranks <= 10).astype(float)


def run_eval(*arguments: object) -> Result:
    fast = ("--bootstrap", "20", "--permutations", "60", "--no-report")
    return CliRunner().invoke(app, ["eval", *map(str, arguments), *fast])


def test_the_estimate_is_far_nearer_to_the_whole_than_the_sampled_metric() -> None:
    random = np.random.default_rng(0)
    true = np.floor(ITEMS * random.beta(0.5, 4, size=50_000)) + 1
    sampled = 1 + random.binomial(NEGATIVES, (true - 1) / (ITEMS - 1))
    whole = recall_at_10(true).mean()
    estimate = corrected(recall_at_10, ITEMS, NEGATIVES)[sampled - 1].mean()
    assert recall_at_10(sampled.astype(float)).mean() > 3 * whole
    assert estimate == pytest.approx(whole, abs=0.03)


def test_the_estimate_minimises_bias_and_variance() -> None:
    items, negatives, trade = 30, 4, 0.1
    best = corrected(recall_at_10, items, negatives, trade)
    ranks = np.arange(1, items + 1)
    chances = np.array(
        [
            [
                np.prod([negatives - i for i in range(j)]) / np.prod(range(1, j + 1) or [1])
                * share**j * (1 - share) ** (negatives - j)
                for j in range(negatives + 1)
            ]
            for share in (ranks - 1) / (items - 1)
        ]
    )  # fmt: skip

    def cost(values: Floats) -> float:
        mean = chances @ values
        variance = chances @ values**2 - mean**2
        bias = mean - recall_at_10(ranks.astype(float))
        return float((bias**2 + trade * variance).sum())

    random = np.random.default_rng(1)
    for _ in range(20):
        assert cost(best) <= cost(best + random.normal(size=negatives + 1) * 0.01) + 1e-12


def test_a_tied_positive_has_the_mean_of_its_ranks() -> None:
    table = corrected(recall_at_10, 100, 3)
    ranks = rank(Pools.of([[1.0, 1.0, 0.0, 2.0]], [[True, False, False, False]]))
    found = corrected_metrics(ranks, 100, (10,))["recall@10"]
    assert found[0] == pytest.approx((table[1] + table[2]) / 2)


def test_auc_needs_no_correction() -> None:
    ranks = rank(Pools.of([[1.0, 3.0, 0.0, 2.0]], [[True, False, False, False]]))
    assert corrected_metrics(ranks, 100, (10,))["auc"][0] == pytest.approx(1 / 3)


def test_several_right_answers_cannot_be_corrected() -> None:
    ranks = rank(Pools.of([[1.0, 3.0, 0.0]], [[True, True, False]]))
    with pytest.raises(UsageError, match="exactly one right answer"):
        corrected_metrics(ranks, 100, (3,))


def test_more_candidates_than_items_are_refused() -> None:
    ranks = rank(Pools.of([[1.0, 3.0, 0.0]], [[True, False, False]]))
    with pytest.raises(UsageError, match="more candidates than the 2 items"):
        corrected_metrics(ranks, 2, (3,))


def test_the_option_estimates_every_system_and_chance(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    more = [{"item_id": f"m{number}", "title": "t"} for number in range(192)]
    lines = (run / "items.jsonl").read_text()
    write(run / "items.jsonl", [*map(json.loads, lines.splitlines()), *more])
    result = run_eval(run, "--corrected", "--k", 5)
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["protocol"]["corrected"] is True
    assert metrics["chance"]["recall@5"] == pytest.approx(5 / metrics["protocol"]["catalogue"])
    assert metrics["systems"]["good"]["recall@5"]["value"] < 0.9
    assert "Estimated for all 200 items" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--full",), "sampled candidates"),
        (("--metrics", "mind"), "sampled candidates"),
    ],
)
def test_estimates_are_for_sampled_candidates(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = run_eval(make_run(tmp_path), "--corrected", *arguments)
    assert refused.exit_code == 2
    assert message in refused.stderr


def test_without_items_nothing_can_be_estimated(tmp_path: Path) -> None:
    path = write(tmp_path / "scores-x.jsonl", [line(f"u{n}", [2, 1]) for n in range(3)])
    refused = run_eval("--scores", path, "--corrected")
    assert refused.exit_code == 2
    assert "size of the catalogue is not known" in refused.stderr


def test_negatives_that_were_not_uniform_cannot_be_corrected(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    manifest = {"settings": {}, "counts": {"choices": {"negatives": "popularity"}}}
    (run / "examples.jsonl.manifest.json").write_text(json.dumps(manifest))
    refused = run_eval(run, "--corrected")
    assert refused.exit_code == 2
    assert "these are popularity" in refused.stderr
