"""``trec eval`` as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.evaluate.folder import line, make_run, write
from trec_cli.commands.app import app

FAST = ("--bootstrap", "50", "--permutations", "250")
OUTPUTS = {"metrics.json", "per_user.jsonl", "report.html"}


def run_eval(*arguments: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments), *FAST], input=text)


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_every_scores_file_of_a_run_is_compared(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    result = run_eval(run, "--reference", "blind")
    assert result.exit_code == 0, result.output
    for part in ("good", "blind", "chance", "recall", "differs from blind"):
        assert part in result.stdout
    assert {f"{name}.manifest.json" for name in OUTPUTS} | OUTPUTS <= written(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(metrics["systems"]) == {"good", "blind"}
    for system in metrics["systems"].values():
        assert system["examples"] == 40
        for name in ("recall", "mrr", "ndcg"):
            for k in (3, 5, 10):
                assert set(system[f"{name}@{k}"]) == {"value", "low", "high"}
    assert len((run / "report.html").read_bytes()) > 400_000, "the charts' library is within"
    assert len((run / "per_user.jsonl").read_text().splitlines()) == 80


def test_files_without_the_split_are_left_out_and_mixed_ones_are_not(tmp_path: Path) -> None:
    here = [line(f"u{n}", [2, 1]) for n in range(4)]
    other = [line(f"v{n}", [2, 1], split="valid") for n in range(4)]
    write(tmp_path / "scores-mixed.jsonl", [*other, *here])
    write(tmp_path / "scores-pure.jsonl", here)
    write(tmp_path / "scores-valid.jsonl", other)
    result = run_eval(tmp_path)
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {name: entry["examples"] for name, entry in metrics["systems"].items()} == {
        "mixed": 4, "pure": 4
    }  # fmt: skip
    assert "scores-valid.jsonl is of another split than test: left out" in result.stderr


def test_examples_with_other_positives_than_were_scored_explain_nothing(tmp_path: Path) -> None:
    scores = [line(f"u{n}", [2, 1]) for n in range(4)]
    asked = [
        {**entry, "history": ["i5"], "positives": ["i1"] if n == 2 else entry["positives"]}
        for n, entry in enumerate(scores)
    ]
    write(tmp_path / "scores-x.jsonl", scores)
    write(tmp_path / "examples.jsonl", asked)
    result = run_eval(tmp_path)
    assert result.exit_code == 0, result.stderr
    assert "1 of 4 examples is in no slice: not in" in result.stderr
    (only,) = json.loads((tmp_path / "metrics.json").read_text())["slices"]
    assert only["examples"] == 3


def test_runs_of_an_earlier_export_are_named(tmp_path: Path) -> None:
    run, runs = make_run(tmp_path / "run"), tmp_path / "runs"
    more = ("--no-report", "--trec-run", runs)
    assert run_eval(run, *more).exit_code == 0
    (runs / "mine.run").write_text("another tool's")
    (run / "scores-blind.jsonl").unlink()
    warned = run_eval(run, *more).stderr
    assert "blind.run: left from an earlier evaluation" in warned
    assert "mine.run" not in warned


def test_where_only_a_table_is_printed_no_file_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_run(tmp_path) / "scores-good.jsonl"
    hashed: list[Path] = []

    def note(file: Path) -> str:
        hashed.append(file)
        return "0"

    monkeypatch.setattr("trec_cli.core.manifest.file_hash", note)
    assert run_eval("--scores", path).exit_code == 0
    assert hashed == []
    assert run_eval("--scores", path, "--out", tmp_path / "out", "--no-report").exit_code == 0
    assert path in hashed


def test_the_same_command_again_does_nothing_and_shows_the_table(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = run_eval(run)
    before = {name: (run / name).stat().st_mtime_ns for name in OUTPUTS}
    again = run_eval(run)
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert again.stdout == first.stdout
    assert before == {name: (run / name).stat().st_mtime_ns for name in OUTPUTS}


def test_new_scores_are_evaluated_without_asking(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_eval(run, "--no-report")
    (run / "scores-third.jsonl").write_bytes((run / "scores-good.jsonl").read_bytes())
    assert run_eval(run, "--no-report").exit_code == 0
    assert "third" in json.loads((run / "metrics.json").read_text())["systems"]


def test_other_options_need_overwrite(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_eval(run, "--no-report")
    refused = run_eval(run, "--no-report", "--k", 1)
    assert refused.exit_code == 2
    assert "--k 3, 5, 10 before, 1 now" in refused.stderr
    assert run_eval(run, "--no-report", "--k", 1, "--overwrite").exit_code == 0
    assert "recall@1" in json.loads((run / "metrics.json").read_text())["chance"]


def test_json_ends_with_one_line_that_holds_the_metrics(tmp_path: Path) -> None:
    result = run_eval(make_run(tmp_path), "--json", "--k", 2, "--k", 1, "--no-report")
    (last,) = result.stdout.splitlines()
    found = json.loads(last)
    assert (found["command"], found["ok"], found["split"]) == ("eval", True, "test")
    assert list(found["chance"]) == [
        f"{m}@{k}" for m in ("recall", "mrr", "ndcg") for k in (1, 2)
    ] + ["auc"]


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    result = run_eval(make_run(tmp_path), "--quiet", "--no-report", "--no-audit")
    assert (result.stdout, result.stderr) == ("", "")


def test_standard_input_is_a_system_like_any_other(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    text = (run / "scores-good.jsonl").read_text(encoding="utf-8")
    result = run_eval("--scores", "-", "--scores", run / "scores-blind.jsonl", "--json", text=text)
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.stdout)["systems"]) == ["stdin", "blind"]
    assert not OUTPUTS & written(run)


def test_standard_input_can_fill_a_folder_and_an_export(tmp_path: Path) -> None:
    text = json.dumps(line("a", [1, 2])) + "\n" + json.dumps(line("b", [2, 1])) + "\n"
    out = tmp_path / "out"
    arguments = ("--scores", "-", "--out", out, "--trec-run", tmp_path / "runs")
    for _ in range(2):
        assert run_eval(*arguments, text=text).exit_code == 0
    assert written(out) >= OUTPUTS
    assert {"stdin.run", "qrels.txt"} <= written(tmp_path / "runs")


def test_tables_and_runs_are_written_where_asked(tmp_path: Path) -> None:
    run, more = make_run(tmp_path / "run"), tmp_path / "more"
    result = run_eval(
        run,
        "--no-report",
        "--markdown",
        more / "t.md",
        "--latex",
        more / "t.tex",
        "--trec-run",
        more,
    )
    assert result.exit_code == 0, result.output
    assert {"t.md", "t.tex", "t.md.manifest.json", "good.run", "blind.run", "qrels.txt"} <= written(
        more
    )


def test_a_dry_run_checks_and_writes_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    before = written(run)
    result = run_eval(run, "--dry-run")
    assert result.exit_code == 0
    assert "good: 40 examples, 8.0 candidates each" in result.stderr
    assert "report.html" in result.stderr
    assert written(run) == before


def test_files_of_one_name_get_their_folders_names(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name) / "scores-good.jsonl" for name in ("one", "two")]
    result = run_eval("--scores", paths[0], "--scores", paths[1], "--json")
    assert list(json.loads(result.stdout)["systems"]) == ["one/good", "two/good"]


def test_a_config_file_gives_the_options(tmp_path: Path) -> None:
    config = tmp_path / "eval.toml"
    config.write_text('[eval]\nk = [1]\nsplit = "test"\nreport = false\n')
    result = run_eval(make_run(tmp_path / "run"), "--config", config, "--json")
    assert result.exit_code == 0, result.output
    assert "recall@1" in json.loads(result.stdout)["chance"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give the RUN folder"),
        (("RUN", "--out", "-"), 2, "name a folder"),
        (("RUN", "--examples", "-"), 2, "only scores"),
        (("RUN", "--split", "dev"), 2, "--split dev: choose one of train, valid, test"),
        (("RUN", "--reference", "nobody"), 2, "none of the systems: blind, good"),
        (("RUN", "--k", "0"), 2, "than or equal to 1"),
        (("--scores", "-", "--scores", "-"), 2, "only once"),
        (
            ("--scores", "RUN/scores-good.jsonl", "--scores", "RUN/scores-good.jsonl"),
            2,
            "same name",
        ),
        (("RUN/nowhere",), 3, "nowhere: no such folder (check the name)"),
        (("RUN/nowhere", "--verify"), 3, "nowhere: no such folder"),
        (("RUN/nowhere", "--exposure", "RUN/x.jsonl"), 3, "nowhere: no such folder"),
        (
            ("RUN/scores-good.jsonl",),
            3,
            "scores-good.jsonl: is a file (give it as --scores FILE)",
        ),
        (("--scores", "RUN/scores-none.jsonl"), 3, "no such file"),
        (("RUN", "--split", "valid"), 3, "no example of split valid"),
        (("RUN", "--items", "RUN/none.jsonl"), 3, "no such file"),
        (("--scores", "RUN/scores-good.jsonl", "--slices"), 2, "--slices needs examples.jsonl"),
        (("--scores", "RUN/scores-good.jsonl", "--slice-by", "x"), 2, "--slice-by needs items"),
        (("--verify",), 2, "--verify needs the RUN folder"),
        (("RUN", "--verify"), 3, "holds no manifest to follow"),
    ],
)
def test_a_mistake_is_explained(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    run = make_run(tmp_path / "run")
    result = run_eval(*(argument.replace("RUN", str(run)) for argument in arguments))
    assert result.exit_code == code, result.output
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not OUTPUTS & written(run)


def test_systems_that_saw_other_candidates_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write(run / "scores-odd.jsonl", [line(f"u{n}", [1.0, 2.0]) for n in range(40)])
    result = run_eval(run)
    assert result.exit_code == 3
    assert "40 examples with other candidates" in result.stderr


def test_a_truncated_last_line_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = run / "scores-good.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    result = run_eval(run)
    assert result.exit_code == 3
    assert "line 40" in result.stderr
    assert "cut off" in result.stderr


def test_eval_needs_no_torch(tmp_path: Path) -> None:
    blocker = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'peft'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"sys.argv = ['trec', 'eval', {str(make_run(tmp_path))!r}, '--bootstrap', '9']\n"
        "from trec_cli.commands.app import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocker], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", ["--markdown", "--latex", "--trec-run"])
def test_a_file_that_trec_has_not_written_is_not_written_over(tmp_path: Path, option: str) -> None:
    run, target = make_run(tmp_path / "run"), tmp_path / "out"
    mine = target if option != "--trec-run" else target / "qrels.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    refused = run_eval(run, "--no-report", option, target)
    assert refused.exit_code == 2
    assert "no manifest" in refused.stderr
    assert mine.read_text() == "mine"
    assert not OUTPUTS & written(run)
    assert run_eval(run, "--no-report", option, target, "--overwrite").exit_code == 0
    assert mine.read_text() != "mine"


def test_a_table_follows_new_scores_but_other_options_need_overwrite(tmp_path: Path) -> None:
    run, table = make_run(tmp_path / "run"), tmp_path / "t.md"
    good = ("--scores", run / "scores-good.jsonl", "--markdown", table)
    assert run_eval(*good).exit_code == 0
    assert run_eval(*good).exit_code == 0
    both = (*good, "--scores", run / "scores-blind.jsonl")
    assert run_eval(*both).exit_code == 0
    assert "blind" in table.read_text()
    refused = run_eval(*both, "--k", 1)
    assert refused.exit_code == 2
    assert "t.md was made with other settings" in refused.stderr


def test_a_report_of_other_options_is_not_left_beside_new_metrics(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_eval(run)
    assert run_eval(run, "--no-report", "--k", 1, "--overwrite").exit_code == 0
    assert "report.html was made with other settings" in run_eval(run, "--k", 1).stderr


def test_an_evaluation_killed_before_its_manifests_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("trec_cli.core.manifest.Provenance.write", die)
        patched.setattr(Path, "unlink", lambda *_, **__: None)
        run_eval(run, "--no-report")
    assert (run / ".metrics.json.writing").exists()
    again = run_eval(run, "--no-report")
    assert again.exit_code == 0, again.output
    assert not (run / ".metrics.json.writing").exists()


def test_slices_are_shown_and_stand_in_the_metrics(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    result = run_eval(run, "--slices", "--slice-by", "title", "--no-report")
    assert result.exit_code == 0, result.output
    for part in ("ndcg@10 by slice", "history length", "title", "fewer than 30 users"):
        assert part in result.stdout
    slices = json.loads((run / "metrics.json").read_text())["slices"]
    lengths = [entry for entry in slices if entry["by"] == "history length"]
    assert [entry["slice"] for entry in lengths] == ["0", "1", "2", "3", "4"]
    assert sum(entry["examples"] for entry in lengths) == 40
    (titled,) = [entry for entry in slices if entry["by"] == "title"]
    assert titled["systems"]["blind"]["recall@3"]["value"] == pytest.approx(3 / 8)


def test_an_attribute_that_no_item_has_cannot_slice(tmp_path: Path) -> None:
    result = run_eval(make_run(tmp_path), "--slice-by", "colour")
    assert result.exit_code == 2
    assert "--slice-by: no item has colour; use title" in result.stderr


def test_scores_of_unknown_examples_are_in_no_slice_and_it_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    lines = (run / "examples.jsonl").read_text().splitlines(keepends=True)
    (run / "examples.jsonl").write_text("".join(lines[:30]))
    result = run_eval(run, "--no-report")
    assert "10 of 40 examples are in no slice: not in" in result.stderr


def test_seeds_of_a_system_are_pooled_unless_told_not_to(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for seed in (1, 2):
        text = (run / "scores-good.jsonl").read_bytes()
        (run / f"scores-hier@{seed}.jsonl").write_bytes(text)
    result = run_eval(run, "--no-report", "--reference", "hier")
    assert result.exit_code == 0, result.output
    assert "hier (2 seeds)" in result.stdout
    apart = run_eval(run, "--no-report", "--no-pool", "--out", tmp_path / "apart", "--json")
    assert set(json.loads(apart.stdout)["systems"]) == {"blind", "good", "hier@1", "hier@2"}


def test_verify_tells_whether_all_holds(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_eval(run, "--no-report")
    fine = CliRunner().invoke(app, ["eval", str(run), "--verify"])
    assert fine.exit_code == 0, fine.output
    assert "trec eval" in fine.stdout
    with (run / "scores-good.jsonl").open("a") as stream:
        stream.write("\n")
    wrong = CliRunner().invoke(app, ["eval", str(run), "--verify", "--json"])
    assert wrong.exit_code == 3
    found = json.loads(wrong.stdout)
    assert found["ok"] is False
    states = {Path(entry["file"]).name: entry["state"] for entry in found["files"]}
    assert states["metrics.json"] == "newer input"
    assert states["scores-good.jsonl"] == "no manifest"
    assert "made from another version of" in wrong.stderr


@pytest.mark.parametrize("option", ["--markdown", "--latex", "--trec-run"])
def test_tables_do_not_go_to_standard_output(tmp_path: Path, option: str) -> None:
    result = run_eval(make_run(tmp_path), option, "-")
    assert result.exit_code == 2
    assert "cannot go to standard output" in result.stderr


def test_minds_metrics_by_option(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    result = run_eval(run, "--metrics", "mind", "--no-report")
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["chance"]) == ["auc", "mrr", "ndcg@5", "ndcg@10"]
    settings = json.loads((run / "metrics.json.manifest.json").read_text())["settings"]
    assert settings["metrics"] == "mind"
    assert list(metrics["audit"]["no_user"])[:2] == ["auc", "mrr"]


def test_all_metrics_by_option(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run_eval(run, "--metrics", "all", "--k", 2).exit_code == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"hit@2", "precision@2", "map@2", "recall@2", "auc"} <= set(metrics["chance"])
    assert metrics["systems"]["good"]["hit@2"] == metrics["systems"]["good"]["recall@2"]


def test_minds_cut_offs_are_its_own(tmp_path: Path) -> None:
    refused = run_eval(make_run(tmp_path), "--metrics", "mind", "--k", 3)
    assert refused.exit_code == 2
    assert "leave out --k" in refused.stderr


def test_the_table_says_which_difference_can_be_seen(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    result = run_eval(run, "--no-audit", "--no-report")
    (found,) = {
        entry["detectable"]
        for entry in json.loads((run / "metrics.json").read_text())["comparisons"]
        if entry["metric"] == "ndcg@10"
    }
    said = " ".join(result.stdout.split())
    assert "with 40 users, the smallest difference from blind in ndcg@10 that one" in said
    assert f"finds four times out of five is {found:.3f}." in said
    assert "Ranked among 8 candidates, not the whole catalogue" in said


def test_columns_make_tables_narrow_and_leave_the_numbers(tmp_path: Path) -> None:
    run, table = make_run(tmp_path), tmp_path / "table.tex"
    narrow = ("--column", "ndcg@10", "--no-intervals", "--latex", table, "--no-report")
    result = run_eval(run, *narrow)
    assert result.exit_code == 0, result.stderr
    assert "recall" not in result.stdout
    assert r"\begin{tabular}{@{}lr@{}}" in table.read_text()
    assert "recall@3" in json.loads((run / "metrics.json").read_text())["chance"]
    other = run_eval(run, "--column", "auc", "--latex", tmp_path / "other.tex", "--no-report")
    assert other.exit_code == 0, "tables are drawn from the numbers that are there"
    assert "auc" in (tmp_path / "other.tex").read_text()
    again = run_eval(run, "--column", "auc", "--latex", table, "--no-report")
    assert again.exit_code == 2
    assert "--column" in again.stderr
    refused = run_eval(run, "--column", "ndcg")
    assert refused.exit_code == 2
    assert "--column ndcg: choose one of recall@3" in refused.stderr


def test_systems_that_answered_more_are_compared_on_what_all_have_answered(tmp_path: Path) -> None:
    many = write(tmp_path / "many.jsonl", [line(f"u{n}", [n % 2, 0.5], [0]) for n in range(9)])
    few = write(tmp_path / "few.jsonl", [line(f"u{n}", [1, 0], [0]) for n in (5, 1, 3)])
    words = ["--scores", many, "--scores", few, "--k", 1]
    assert "missing" in run_eval(*words).stderr
    result = run_eval(*words, "--common", "--json")
    assert result.exit_code == 0, result.stderr
    assert "compared on 3 of 9 examples" in result.stderr
    told = json.loads(result.stdout.splitlines()[-1])
    found = {name: (s["examples"], s["recall@1"]["value"]) for name, s in told["systems"].items()}
    assert found == {"many": (3, 1.0), "few": (3, 1.0)}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--reference", "nobody"), "--reference 'nobody' is none of the systems: blind, good"),
        (("--slice-by", "nothing"), "--slice-by: no item has nothing"),
    ],
)
def test_what_cannot_be_made_is_told_before_what_was_made_with_other_settings(
    tmp_path: Path, option: tuple[str, str], message: str
) -> None:
    run = make_run(tmp_path)
    assert run_eval(run, "--no-audit").exit_code == 0
    result = run_eval(run, "--no-audit", "--seed", "1", *option)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "other settings" not in result.stderr
