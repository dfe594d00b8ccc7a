"""The calculator of recommendations a night against what was measured."""

import pytest

from benchmarks.cascade import ITEMS, PROMPT, SMOL, Prompt, checks, lm_seconds, processor, rows
from benchmarks.page import PAGE, nights, results
from trec_cli.core.cost import ModelSize, Profile


def test_a_user_is_the_shared_prefix_once_and_every_branch() -> None:
    assert Prompt(300, 28.5).tokens(50) == 1725
    device = Profile(flops=1e12, utilisation=0.5, bandwidth=1e12)
    seconds = lm_seconds(Prompt(300, 28.5), 50, ModelSize(weights=1e8), device)
    assert seconds == pytest.approx(2 * 1e8 * 1725 / 0.5e12)


def test_the_formula_is_near_every_measured_run_of_scoring() -> None:
    compared = checks(results())
    assert len(compared) > 10
    for row in compared:
        if row["prefix"] <= 1000:
            assert 0.8 <= row["ratio"] <= 1.2, row
        else:  # attention is not counted
            assert row["ratio"] < 1


def test_the_cascade_serves_more_users_by_the_tokens_that_it_saves() -> None:
    found = {
        (r["device"], r["model"], "cascade" in r["way"]): r for r in rows(results(), PROMPT, 1e-9)
    }
    for device in ("2 cores", "l4", "h100"):
        ratio = found[device, "7B", True]["users_per_s"] / found[device, "7B", False]["users_per_s"]
        assert ratio == pytest.approx(PROMPT.tokens(ITEMS) / PROMPT.tokens(50), rel=0.01)


def test_beside_a_gpu_the_slower_stage_decides_and_on_two_cores_both_count() -> None:
    found = {
        (r["device"], r["model"], "cascade" in r["way"]): r for r in rows(results(), PROMPT, 0.1)
    }
    assert found["h100", "135M", True]["users_per_s"] == 10
    lm = lm_seconds(PROMPT, 50, SMOL, processor(results()))
    assert found["2 cores", "135M", True]["users_per_s"] == pytest.approx(1 / (0.1 + lm), rel=0.01)


def test_the_page_has_what_the_results_say() -> None:
    assert nights(results()["cascade"]) in PAGE.read_text("utf-8")
