"""``trec eval --exposure``: logs of what was shown, worked out by hand; and every fault in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.evaluate.folder import write
from trec_cli import api
from trec_cli.commands.app import app
from trec_cli.evaluate.settings import Options


def run_eval(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def shown(user: str, item: str, propensity: float, reward: float, **more: Any) -> dict[str, Any]:
    return {
        "user_id": user, "item_id": item, "propensity": propensity, "reward": reward, **more
    }  # fmt: skip


def asked(user: str, scores: dict[str, float], **more: Any) -> dict[str, Any]:
    return {
        "user_id": user, "split": "test", "candidates": list(scores),
        "scores": list(scores.values()), "positives": [], **more,
    }  # fmt: skip


LOG = [
    shown("a", "x", 0.5, 1),
    shown("a", "y", 0.25, 0),
    shown("b", "x", 0.5, 0),
    shown("b", "z", 0.8, 1),
]
SCORES = [asked("a", {"x": 3, "y": 2, "z": 1}), asked("b", {"z": 5, "x": 5, "y": 1})]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path / "log.jsonl", LOG)
    write(tmp_path / "scores-hier.jsonl", SCORES)
    return tmp_path


def estimated(run: Path, *options: object) -> dict[str, Any]:
    result = run_eval(run, "--exposure", run / "log.jsonl", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads((run / "exposure.json").read_text())
    return found


def test_the_first_of_a_list_have_the_weights_worked_out_by_hand(run: Path) -> None:
    found = estimated(run, "--k", 1, "--k", 2)
    assert (found["events"], found["users"], found["mean_reward"]) == (4, 2, 0.5)
    first, second = (found["policies"][f"hier, first {k}"] for k in (1, 2))
    # First 1: a sees x; b sees x or z, which tie. Weights 1/.5, 0, .5/.5, .5/.8.
    assert first["value"] == pytest.approx((2 + 0.625) / 3.625)
    assert first["effective"] == pytest.approx(3.625**2 / (4 + 1 + 0.625**2))
    assert first["difference"] == pytest.approx(2.625 / 3.625 - 0.5)
    assert (first["events"], first["largest"], first["total"]) == (3, 2.0, 3.625)
    # First 2: a sees x and y, b sees z and x. Weights 2, 4, 2, 1.25.
    assert second["value"] == pytest.approx(3.25 / 9.25)


def test_clipped_weights_are_counted_and_said(run: Path) -> None:
    result = run_eval(run, "--exposure", run / "log.jsonl", "--k", 2, "--clip", 2)
    entry = json.loads((run / "exposure.json").read_text())["policies"]["hier, first 2"]
    assert entry["value"] == pytest.approx(3.25 / 7.25)
    assert entry["clipped"] == 1
    assert "1 weight was cut" in result.stderr
    assert "few events decide" in result.stderr


def test_the_log_may_bring_probabilities_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    wanted = [0.4, 0.3, 0.6, 0.0]
    write(log, [{**e, "policies": {"new": p}} for e, p in zip(LOG, wanted, strict=True)])
    result = run_eval("--exposure", log, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    entry = json.loads(result.stdout.splitlines()[-1])["policies"]["new"]
    assert entry["value"] == pytest.approx(0.8 / (0.8 + 1.2 + 1.2))
    assert not (tmp_path / "exposure.json").exists()


def test_recommendations_are_policies_too(run: Path) -> None:
    lists = [
        {"user_id": user, "items": [{"item_id": i, "rank": r, "score": 1} for r, i in ranked]}
        for user, ranked in (("a", [(1, "y"), (2, "x")]), ("b", [(1, "z")]))
    ]
    write(run / "recommendations-catalogue.jsonl", lists)
    found = estimated(run, "--k", 1)["policies"]["catalogue (recommendations), first 1"]
    assert found["value"] == pytest.approx(1.25 / (4 + 1.25))


def test_an_example_id_says_which_of_a_users_questions_was_shown(tmp_path: Path) -> None:
    two = [
        asked("a", {"x": 2, "y": 1}, example_id="a1"),
        asked("a", {"x": 1, "y": 2}, example_id="a2"),
    ]
    write(tmp_path / "scores-hier.jsonl", two)
    write(tmp_path / "log.jsonl", [shown("a", "x", 0.5, 1)])
    result = run_eval(tmp_path, "--exposure", tmp_path / "log.jsonl")
    assert result.exit_code == 3
    assert "several questions of user 'a'" in result.stderr
    named = [shown("a", "x", 0.5, 1, example_id="a1"), shown("a", "x", 0.5, 0, example_id="a2")]
    write(tmp_path / "log.jsonl", named)
    assert estimated(tmp_path, "--k", 1)["policies"]["hier, first 1"]["value"] == 1.0


def test_questions_without_an_answer_can_be_evaluated(tmp_path: Path) -> None:
    write(tmp_path / "scores-hier.jsonl", [{**line, "split": "predict"} for line in SCORES])
    write(tmp_path / "log.jsonl", LOG)
    found = estimated(tmp_path, "--split", "predict", "--k", 2)
    assert found["policies"]["hier, first 2"]["value"] == pytest.approx(3.25 / 9.25)


def test_a_simulated_log_finds_what_a_list_would_have_earned(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    old, click = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.2, 0.6])
    log, scores = [], []
    for user in range(3000):
        item = int(random.choice(3, p=old))
        reward = int(random.random() < click[item])
        log.append(shown(f"u{user}", f"i{item}", float(old[item]), reward))
        scores.append(asked(f"u{user}", {"i0": 1, "i1": 2, "i2": 3}))
    write(tmp_path / "log.jsonl", log)
    write(tmp_path / "scores-best.jsonl", scores)
    entry = estimated(tmp_path, "--k", 1)["policies"]["best, first 1"]
    assert entry["low"] < 0.6 < entry["high"]
    assert entry["low_difference"] > 0.2


def test_the_same_command_again_does_nothing_and_another_needs_overwrite(run: Path) -> None:
    estimated(run)
    again = run_eval(run, "--exposure", run / "log.jsonl")
    assert "nothing to do" in again.stderr
    other = run_eval(run, "--exposure", run / "log.jsonl", "--clip", 3)
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (shown("a", "x", 0, 1), "propensity"),
        (shown("a", "x", 1.5, 1), "propensity"),
        ({"user_id": "a", "item_id": "x", "reward": 1}, "propensity"),
        ({**LOG[0], "reward": "yes"}, "reward"),
        ({**LOG[0], "policies": {"new": 2}}, "policies"),
        ({**LOG[0], "policies": {"new": 0.5}}, "of no policy"),
    ],
)
def test_a_bad_line_is_named(run: Path, line: dict[str, Any], message: str) -> None:
    write(run / "log.jsonl", [*LOG, line])
    result = run_eval(run, "--exposure", run / "log.jsonl")
    assert result.exit_code == 3
    assert "line 5" in result.stderr
    assert message in result.stderr


def test_a_reward_that_is_no_number_is_named(run: Path) -> None:
    text = (run / "log.jsonl").read_text() + json.dumps(LOG[0]).replace("1}", "1e999}") + "\n"
    (run / "log.jsonl").write_text(text)
    result = run_eval(run, "--exposure", run / "log.jsonl")
    assert result.exit_code == 3
    assert "line 5" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--exposure", "{run}/log.jsonl"), 2, "no policy to evaluate"),
        (("{run}", "--exposure", "{run}/nothing.jsonl"), 3, "no such file"),
        (("{run}", "--clip", 3), 2, "--clip is for --exposure"),
        (("{run}", "--exposure", "{run}/log.jsonl", "--clip", 0.5), 2, "clip"),
        (("{run}", "--exposure", "{run}/log.jsonl", "--split", "valid"), 2, "no policy"),
        (
            (
                "--scores",
                "{run}/scores-hier.jsonl",
                "--exposure",
                "{run}/log.jsonl",
                "--split",
                "valid",
            ),
            3,
            "no list for any user",
        ),
        (("{run}", "--exposure", "-"), 2, "no streams"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Path, options: tuple[object, ...], code: int, message: str
) -> None:
    result = run_eval(*(str(option).replace("{run}", str(run)) for option in options))
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_an_empty_log_is_refused(run: Path) -> None:
    (run / "log.jsonl").write_text("")
    assert run_eval(run, "--exposure", run / "log.jsonl").exit_code == 3


def test_users_without_a_list_are_left_out_and_counted(run: Path) -> None:
    write(run / "log.jsonl", [*LOG, shown("c", "x", 0.5, 1)])
    result = run_eval(run, "--exposure", run / "log.jsonl", "--k", 2)
    assert "no list for the users of 1 of 5 events" in result.stderr
    found = json.loads((run / "exposure.json").read_text())["policies"]["hier, first 2"]
    assert (found["answered"], found["value"]) == (4, pytest.approx(3.25 / 9.25))


def test_a_policy_that_shows_nothing_of_the_log_has_no_estimate(run: Path) -> None:
    write(run / "log.jsonl", [shown("a", "z", 0.5, 1)])
    result = run_eval(run, "--exposure", run / "log.jsonl", "--k", 1)
    assert result.exit_code == 0, result.output
    assert "shown nothing of what was logged" in result.stderr


def test_a_dry_run_checks_the_log(run: Path) -> None:
    result = run_eval(run, "--exposure", run / "log.jsonl", "--dry-run")
    assert "4 events" in result.stderr
    assert not (run / "exposure.json").exists()


def test_two_groups_of_users_are_compared(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    log = [
        shown(f"{group}{n}", f"i{k}", 1, int(random.random() < rate), group=group)
        for group, rate in (("old list", 0.1), ("new list", 0.3))
        for n in range(300)
        for k in range(3)
    ]
    write(tmp_path / "log.jsonl", log)
    result = run_eval("--exposure", tmp_path / "log.jsonl", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    groups = json.loads((tmp_path / "exposure.json").read_text())["groups"]
    assert list(groups) == ["new list", "old list"]
    old = groups["old list"]
    rates = {g: np.mean([e["reward"] for e in log if e["group"] == g]) for g in groups}
    assert old["value"] == pytest.approx(rates["old list"])
    assert old["difference"] == pytest.approx(rates["old list"] - rates["new list"])
    assert old["low_difference"] < -0.2 < old["high_difference"] < 0
    assert (old["users"], old["events"]) == (300, 900)
    assert "group old list" in result.stdout


def test_a_group_in_some_lines_only_is_refused(run: Path) -> None:
    write(run / "log.jsonl", [*LOG, shown("c", "x", 0.5, 1, group="new")])
    result = run_eval(run, "--exposure", run / "log.jsonl")
    assert result.exit_code == 3
    assert "line 5" in result.stderr


def test_of_a_run_what_has_no_list_for_the_log_is_left_out(run: Path) -> None:
    write(run / "scores-other.jsonl", [asked("z", {"x": 1})])
    result = run_eval(run, "--exposure", run / "log.jsonl", "--k", 1)
    assert result.exit_code == 0, result.output
    assert "without a list for any user of the log: scores-other.jsonl" in result.stderr
    policies = json.loads((run / "exposure.json").read_text())["policies"]
    assert list(policies) == ["hier, first 1"]


def test_lists_are_no_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "recommendations-x.jsonl", [{"user_id": "a", "items": []}])
    result = run_eval("--scores", path)
    assert result.exit_code == 2
    assert "estimate with --exposure" in result.stderr


def test_python_gives_the_same(run: Path) -> None:
    options = api.EvalOptions(run=run, exposure=run / "log.jsonl", numbers=Options(ks=(2,)))
    found = api.evaluate(options)
    assert found["policies"]["hier, first 2"]["value"] == pytest.approx(3.25 / 9.25)
