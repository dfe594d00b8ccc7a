"""``trec eval --study`` runs what is not done, goes on after failures, and compares."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.study.studies import ARMS, BASE, SHOP, Here, invoke, write_study
from trec_cli.study.launch import Ending

RANDOM = '\n[[arm]]\nname = "random"\nscorer = "random"\n'


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(monkeypatch)


def run(folder: Path, *more: object, study: Path | None = None) -> Any:
    return invoke("eval", "--study", study or write_study(folder), "--out", folder / "out", *more)


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_a_study_ends_with_table_figure_and_results_arm_by_arm(tmp_path: Path, here: Here) -> None:
    result = run(tmp_path)
    assert result.exit_code == 0, result.stderr
    assert here.stages == ["prepare", "score", "score", "eval"]
    out = tmp_path / "out"
    arms = {arm["name"]: arm for arm in read(out / "study.json")["arms"]}
    metrics = read(out / "metrics.json")
    assert arms["bm25"]["state"] == "done"
    assert arms["bm25"]["systems"]["bm25"] == metrics["systems"]["bm25"]
    assert arms["bm25"]["commands"][1][:2] == ["trec", "score"]
    assert {c["reference"] for c in metrics["comparisons"]} == {"popularity"}
    assert "| bm25 |" in (out / "table.md").read_text()
    assert "<circle" in (out / "figure.svg").read_text()
    assert "bm25" in result.stdout


def test_arms_with_a_smaller_limit_are_compared_on_their_own_examples(
    tmp_path: Path, here: Here
) -> None:
    few = '\n[[arm]]\nname = "few"\nscorer = "bm25"\nscore.limit = 6\n'
    result = run(tmp_path, study=write_study(tmp_path, ARMS + few))
    assert result.exit_code == 0, result.stderr
    assert here.stages[-2:] == ["eval", "eval"]
    out = tmp_path / "out"
    main, common = read(out / "metrics.json"), read(out / "common" / "metrics.json")
    assert (set(main["systems"]), main["users"]) == ({"popularity", "bm25"}, 20)
    assert (set(common["systems"]), common["users"]) == ({"popularity", "bm25", "few"}, 6)
    assert common["systems"]["few"] == common["systems"]["bm25"]
    assert common["audit"]["no_user"]["auc"] != main["audit"]["no_user"]["auc"], "of 6, not of 20"
    arms = {arm["name"]: arm for arm in read(out / "study.json")["arms"]}
    assert arms["few"]["systems"] == {}
    assert arms["few"]["common"]["few"] == common["systems"]["few"]
    assert arms["bm25"]["systems"]["bm25"] == main["systems"]["bm25"]


def test_what_is_done_is_not_run_again_and_a_new_arm_shares_it(tmp_path: Path, here: Here) -> None:
    run(tmp_path)
    here.stages.clear()
    assert run(tmp_path).exit_code == 0
    assert here.stages == ["eval"]
    here.stages.clear()
    assert run(tmp_path, study=write_study(tmp_path, ARMS + RANDOM)).exit_code == 0
    assert here.stages == ["score", "eval"]


def test_what_was_made_from_other_inputs_is_made_again(tmp_path: Path, here: Here) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(SHOP, shop)
    assert run(tmp_path, "--set", f"source={shop}").exit_code == 0
    before = read(tmp_path / "out" / "metrics.json")["systems"]
    here.stages.clear()
    lines = (shop / "sequences.jsonl").read_bytes().splitlines(keepends=True)
    (shop / "sequences.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]))
    again = run(tmp_path, "--set", f"source={shop}")
    assert again.exit_code == 0, again.stderr
    assert here.stages == ["prepare", "score", "score", "eval"]
    assert read(tmp_path / "out" / "metrics.json")["systems"] != before


def test_changed_settings_are_refused_before_anything_runs(tmp_path: Path, here: Here) -> None:
    run(tmp_path)
    here.stages.clear()
    for more in ([], ["--dry-run"]):
        result = run(tmp_path, "--set", 'prepare.test-users="10"', *more)
        assert result.exit_code == 2
        assert "arm popularity: " in result.stderr
        assert "give another --out, or --overwrite" in " ".join(result.stderr.split())
    assert here.stages == []
    assert run(tmp_path, "--set", 'prepare.test-users="10"', "--overwrite").exit_code == 0
    examples = read(tmp_path / "out" / "metrics.json")["systems"]["bm25"]["examples"]
    assert examples == 10


def test_a_study_that_was_moved_goes_on(tmp_path: Path, here: Here) -> None:
    run(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").rename(tmp_path / "elsewhere" / "out")
    result = run(tmp_path / "elsewhere", study=tmp_path / "study.toml")
    assert result.exit_code == 0, result.stderr


def test_where_all_arms_fail_no_others_are_said_to_be_done(tmp_path: Path, here: Here) -> None:
    here.instead = lambda words: Ending(3, "no such folder") if words[0] == "prepare" else None
    told = run(tmp_path).stderr
    assert "The others are done" not in told
    assert "The same command tries" in " ".join(told.split())


def test_a_failed_arm_is_named_and_the_others_go_on(tmp_path: Path, here: Here) -> None:
    here.instead = lambda words: Ending(4, "no memory") if "bm25" in words else None
    result = run(tmp_path, "--json", study=write_study(tmp_path, ARMS + RANDOM))
    assert result.exit_code == 5
    assert "1 of 3 arms failed (bm25: score ended with exit code 4: no memory)" in result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["failed"] == ["bm25"]
    assert set(last["systems"]) == {"popularity", "random"}
    states = {arm["name"]: arm["state"] for arm in read(tmp_path / "out" / "study.json")["arms"]}
    assert states == {"popularity": "done", "bm25": "failed", "random": "done"}
    here.instead = lambda _: None
    here.stages.clear()
    assert run(tmp_path, study=write_study(tmp_path, ARMS + RANDOM)).exit_code == 0
    assert here.stages == ["score", "eval"]


def test_where_the_reference_failed_another_arm_takes_its_place(tmp_path: Path, here: Here) -> None:
    here.instead = lambda words: Ending(4) if "popularity" in words and "score" in words else None
    result = run(tmp_path, study=write_study(tmp_path, ARMS + RANDOM))
    assert result.exit_code == 5
    assert "compared with bm25 instead" in result.stderr


def test_the_reference_takes_its_place_again_once_it_has_scores(tmp_path: Path, here: Here) -> None:
    here.instead = lambda words: Ending(4) if "popularity" in words and "score" in words else None
    assert run(tmp_path).exit_code == 5
    here.instead = lambda _: None
    assert run(tmp_path).exit_code == 0
    comparisons = read(tmp_path / "out" / "metrics.json")["comparisons"]
    assert {(c["system"], c["reference"]) for c in comparisons} == {("bm25", "popularity")}


@pytest.mark.parametrize("name", ["study.json", "figure.svg", "metrics.json", "table.md"])
def test_results_of_something_else_are_not_replaced(name: str, tmp_path: Path, here: Here) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert name in result.stderr
    assert (tmp_path / "out" / name).read_text() == "mine"
    assert here.stages == []
    assert run(tmp_path, "--overwrite").exit_code == 0


def test_a_run_folder_with_an_evaluation_is_no_place_for_a_study(
    tmp_path: Path, here: Here
) -> None:
    run(tmp_path)
    (data,) = (tmp_path / "out" / "work").iterdir()
    (tmp_path / "out" / "arms" / "bm25" / "scores-bm25.jsonl").rename(data / "scores-bm25.jsonl")
    assert invoke("eval", data).exit_code == 0
    here.stages.clear()
    result = invoke("eval", "--study", write_study(tmp_path), "--out", data)
    assert result.exit_code == 2
    assert "it compares what is no study's" in result.stderr
    assert here.stages == []


def test_results_have_manifests_that_verify(tmp_path: Path, here: Here) -> None:
    run(tmp_path)
    names = {path.name for path in (tmp_path / "out").glob("*.manifest.json")}
    assert {f"{name}.manifest.json" for name in ("study.json", "figure.svg")} <= names
    result = invoke("eval", tmp_path / "out", "--verify")
    assert result.exit_code == 0, result.stderr


def test_a_failed_common_step_is_tried_once(tmp_path: Path, here: Here) -> None:
    here.instead = lambda words: Ending(3, "no such folder") if words[0] == "prepare" else None
    result = run(tmp_path)
    assert result.exit_code == 5
    assert here.stages == ["prepare"]
    assert "2 of 2 arms failed" in result.stderr


def test_an_interrupt_stops_the_study_and_the_next_run_continues(
    tmp_path: Path, here: Here
) -> None:
    def interrupt(words: list[str]) -> Ending | None:
        if "bm25" in words:
            raise KeyboardInterrupt
        return None

    here.instead = interrupt
    result = run(tmp_path)
    assert result.exit_code == 130
    assert "the same command again continues" in result.stderr
    here.instead = lambda _: None
    here.stages.clear()
    assert run(tmp_path).exit_code == 0
    assert here.stages == ["score", "eval"]


def test_a_dry_run_lists_the_commands_and_runs_none(tmp_path: Path, here: Here) -> None:
    result = run(tmp_path, "--dry-run")
    assert result.exit_code == 0
    assert here.stages == []
    assert not (tmp_path / "out").exists()
    assert result.stderr.count("[to do] trec prepare") == 1
    assert result.stderr.count("[shared] trec prepare of popularity") == 1
    assert "3 commands for 2 arms, 3 to do" in result.stderr
    run(tmp_path)
    assert "3 commands for 2 arms, 0 to do" in run(tmp_path, "--dry-run").stderr


def test_a_mistyped_option_is_refused_before_anything_runs(tmp_path: Path, here: Here) -> None:
    result = run(tmp_path, "--set", "prepare.min-histroy=3")
    assert result.exit_code == 2
    assert "arm popularity, trec prepare" in result.stderr
    assert "min-histroy" in result.stderr
    assert here.stages == []


def test_a_mistyped_option_of_eval_is_refused_before_anything_runs(
    tmp_path: Path, here: Here
) -> None:
    result = run(tmp_path, "--set", "eval.bootstap=10")
    assert result.exit_code == 2
    assert "trec eval: No such option: --bootstap" in result.stderr
    assert here.stages == []


@pytest.mark.parametrize("extra", [["--k", "3"], ["--scores", "x"], ["some-run"], ["--seed", "1"]])
def test_options_that_the_study_decides_are_refused(extra: list[str], tmp_path: Path) -> None:
    result = run(tmp_path, *extra)
    assert result.exit_code == 2
    assert "does not go with --study" in result.stderr


def test_a_study_needs_a_folder(tmp_path: Path) -> None:
    assert invoke("eval", "--study", write_study(tmp_path)).exit_code == 2


@pytest.mark.parametrize("words", [["--set", "a=1"], ["--arm", "none"], ["--jobs", "2"]])
def test_options_of_studies_need_a_study(words: list[str], tmp_path: Path) -> None:
    result = invoke("eval", tmp_path, *words)
    assert result.exit_code == 2
    assert f"{words[0]} is for a study" in result.stderr


def test_chosen_arms_alone_are_run_and_compared(tmp_path: Path, here: Here) -> None:
    study = write_study(tmp_path, ARMS + RANDOM)
    result = run(tmp_path, "--arm", "popularity", "--arm", "random", study=study)
    assert result.exit_code == 0, result.stderr
    assert set(read(tmp_path / "out" / "metrics.json")["systems"]) == {"popularity", "random"}
    here.stages.clear()
    assert run(tmp_path, study=study).exit_code == 0
    assert here.stages == ["score", "eval"]
    assert set(read(tmp_path / "out" / "metrics.json")["systems"]) == {
        "popularity", "bm25", "random"
    }  # fmt: skip


def test_killed_hard_the_same_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    command = _command(tmp_path / "whole")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    command = _command(tmp_path / "killed")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out = tmp_path / "killed" / "out"
    _wait_until(lambda: any(out.glob("work/*/examples.jsonl")) or process.poll() is not None)
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    for name in ("bm25", "popularity"):
        place = Path("out", "arms", name, f"scores-{name}.jsonl")
        whole, killed = tmp_path / "whole" / place, tmp_path / "killed" / place
        assert whole.read_bytes() == killed.read_bytes()


def _command(folder: Path) -> list[str]:
    study = write_study(folder)
    return [sys.executable, "-m", "trec_cli", "eval", "--study", str(study),
            "--out", str(folder / "out"), "--quiet"]  # fmt: skip


def _wait_until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.02)


def test_all_stages_run_with_seeds_and_a_tiny_model(
    tmp_path: Path, here: Here, tiny_model: Callable[..., Path]
) -> None:
    arms = """
[summarize]
item-tokens = 24
max-new-tokens = 4
[prompt]
max-length = 512
candidate-tokens = 128
[train]
epochs = 1
valid-users = 0
[score]
limit = 6
[vary]
setting = "prompt.recent"
values = [0, 2]
[[arm]]
name = "popularity"
scorer = "popularity"
[[arm]]
name = "hier"
mode = "hier"
summarize.limit = 8
train.limit = 4
zero-shot = true
[[arm]]
name = "none"
train.limit = 4
"""
    top = f'model = "{tiny_model()}"\n' + BASE.replace('"40"', '"8"').replace('"20"', '"6"')
    top = top.replace("report = false", "")
    result = run(tmp_path, study=write_study(tmp_path, arms, top))
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    for part in ("<h1>study</h1>", 'id="chart-training"', 'id="quality"', "Summary (hier"):
        assert part in page
    assert sorted(here.stages) == ["eval", "prepare", *["score"] * 5, "summarize", *["train"] * 2]
    figure = (tmp_path / "out" / "figure.svg").read_text()
    assert figure.count("<polyline") == 2
    assert "prompt.recent" in figure


def test_an_output_that_was_changed_by_hand_is_not_taken_for_done(
    tmp_path: Path, here: Here
) -> None:
    run(tmp_path)
    scores = tmp_path / "out" / "arms" / "bm25" / "scores-bm25.jsonl"
    scores.write_bytes(scores.read_bytes().splitlines(keepends=True)[0])
    result = run(tmp_path, "--dry-run")
    assert "3 commands for 2 arms, 1 to do" in result.stderr
