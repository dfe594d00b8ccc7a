"""Settings chosen on split valid, against values worked out by hand."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.jsonl import encode_all
from trec_cli.core.manifest import read_manifest
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example, Item, Split
from trec_cli.core.runs import RunFolder
from trec_cli.score.baselines import BASELINES, learn_baseline
from trec_cli.score.options import Asked
from trec_cli.score.tuning import (
    MOST_EXAMPLES,
    Family,
    Scorer,
    Settings,
    TuningPlan,
    draw_examples,
    plan_tuning,
    validation_mrr,
)

GRID = [{"taste": "first"}, {"taste": "last"}, {"taste": "none"}]
TUNABLE = [name for name, baseline in BASELINES.items() if len(baseline.grid) > 1]
ITEMS = [
    Item(f"i{n}", {"title": title})
    for n, title in enumerate(
        ["red cup", "blue pot", "red hat", "blue pan", "green tea", "old map"]
    )
]


def example(
    number: int,
    split: Split = "valid",
    history: Sequence[str] = (),
    candidates: Sequence[str] = ("a", "b", "c"),
    positives: Sequence[str] = ("a",),
) -> Example:
    return Example(
        example_id=f"{split}-{number}",
        user_id=f"u{number}",
        split=split,
        history=list(history),
        candidates=list(candidates),
        positives=list(positives),
    )


def family(settings: Any) -> Scorer:
    """Prefer the first candidate, or the last, or none."""
    scores = {"first": [3.0, 2.0, 1.0], "last": [1.0, 2.0, 3.0], "none": [0.0, 0.0, 0.0]}
    return lambda _: scores[settings["taste"]]


def planned(
    grid: Sequence[Settings],
    examples: Sequence[Example],
    split: Split = "test",
    *,
    tune: bool = True,
) -> TuningPlan:
    return plan_tuning("bm25", grid, examples, Asked(split=split), tune=tune)


def plan(*examples: Example) -> TuningPlan:
    return planned(GRID, examples)


def test_the_mrr_is_that_of_the_first_positive_with_ties_at_their_expected_value() -> None:
    asked = [
        example(0),  # first: 1, last: 1/3, tied: (1 + 1/2 + 1/3) / 3
        example(1, positives=["b", "c"]),  # 1/2, 1, first of two among three: (2 + 1/2) / 3
    ]
    first, last, none = (validation_mrr(family(settings), asked) for settings in GRID)
    assert first == pytest.approx((1 + 1 / 2) / 2)
    assert last == pytest.approx((1 / 3 + 1) / 2)
    assert none == pytest.approx((11 / 18 + 5 / 6) / 2)


def test_the_best_trial_scores_and_every_trial_is_told() -> None:
    asked = plan(example(0, positives=["c"]))
    tuned = asked.run(family)
    assert tuned.chosen == {"taste": "last"}
    assert asked.details(tuned) == {
        "chosen": {"taste": "last"},
        "trials": [
            {"settings": {"taste": "first"}, "valid_mrr": 1 / 3},
            {"settings": {"taste": "last"}, "valid_mrr": 1.0},
            {"settings": {"taste": "none"}, "valid_mrr": pytest.approx(11 / 18)},
        ],
        "valid_examples": 1,
    }
    assert asked.remark(tuned) == (
        "bm25: best on 1 example of valid with taste last (MRR 1.000; 3 trials)"
    )


def test_equal_trials_keep_the_default() -> None:
    tuned = plan(example(0, positives=["a", "c"])).run(family)
    assert [trial.valid_mrr for trial in tuned.trials[:2]] == [1.0, 1.0]
    assert tuned.chosen == {"taste": "first"}


def test_what_differs_in_the_last_bits_alone_is_a_tie() -> None:
    def rounding(settings: Any) -> Scorer:
        return lambda _: [0.3, 0.1 + 0.2 if settings["taste"] == "last" else 0.3, 0.0]

    tuned = plan(example(0, positives=["b"])).run(rounding)
    assert {trial.valid_mrr for trial in tuned.trials} == {0.75}
    assert tuned.chosen == {"taste": "first"}


@pytest.mark.parametrize(
    ("split", "tune", "examples", "reason"),
    [
        ("test", True, [example(0, "test")], "there is no example of split valid to tune on"),
        ("valid", True, [example(0)], "valid is the split that is scored, so nothing is"),
        ("test", False, [example(0)], "not tuned, as asked for"),
    ],
)
def test_otherwise_the_defaults_are_used_and_it_is_said_why(
    split: Split, tune: bool, examples: list[Example], reason: str
) -> None:
    def untried(settings: Any) -> Scorer:
        assert settings == GRID[0]
        return lambda _: [len(settings) / 0]

    made = planned(GRID, examples, split, tune=tune)
    tuned = made.run(untried)
    assert tuned.chosen == GRID[0]
    assert made.settings == {"grid": GRID[:1]}
    details = made.details(tuned)
    assert details["not_tuned"].startswith(reason)
    assert (details["trials"], details["valid_examples"]) == ([], 0)
    assert made.remark(tuned).startswith(f"bm25: default settings, taste first; {reason}")


def test_without_a_grid_there_is_nothing_to_tune_to_record_or_to_choose() -> None:
    made = planned([{}], [example(0)])
    tuned = made.run(family)
    assert (made.settings, made.details(tuned)) == ({}, {})
    assert made.remark(tuned) == "bm25: there is nothing to tune"


def test_at_most_so_many_examples_are_drawn_by_the_seed_alone() -> None:
    many = [example(n) for n in range(MOST_EXAMPLES + 50)] + [example(n, "train") for n in range(9)]
    drawn = draw_examples(many, seed=3)
    assert len(drawn) == len({e.example_id for e in drawn}) == MOST_EXAMPLES
    assert {e.split for e in drawn} == {"valid"}
    assert drawn == draw_examples(random.Random(1).sample(many, len(many)), seed=3)
    assert drawn != draw_examples(many, seed=4)
    fewer = [e for e in many if e.example_id != drawn[0].example_id]
    assert draw_examples(fewer, seed=3)[: MOST_EXAMPLES - 1] == drawn[1:]


@pytest.mark.parametrize("name", TUNABLE)
def test_an_empty_history_ties_all_candidates_in_every_trial(name: str) -> None:
    items = {item.item_id: item for item in ITEMS}
    train = [example(0, "train", ["i0"], ["i1"], ["i1"])]
    asked = [example(1, history=[], candidates=["i0", "i1", "i2"], positives=["i2"])]
    learnt = learn_baseline(name, items, train)
    tuned = planned(BASELINES[name].grid, asked).run(learnt)
    assert tuned.chosen == BASELINES[name].grid[0]
    assert [t.valid_mrr for t in tuned.trials] == pytest.approx([11 / 18] * 4)


def _wants_the_first(split: Split, number: int) -> Example:
    """Like the oldest history item (red), not like the newest (blue)."""
    return example(number, split, ["i0", "i4", "i1"], ["i2", "i3", "i5"], ["i2"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    examples = [
        *(_wants_the_first("valid", number) for number in range(3)),
        *(_wants_the_first("test", number) for number in range(10, 12)),
        example(20, "train", ["i0", "i1"], ["i2", "i3"], ["i2"]),
        example(21, "train", ["i1"], ["i3", "i2"], ["i3"]),
    ]
    return write_run(tmp_path / "run", ITEMS, examples)


def write_run(folder: Path, items: Sequence[Item], examples: Sequence[Example]) -> Path:
    folder.mkdir()
    write_lines(RunFolder(folder).items, encode_all(items))
    write_lines(RunFolder(folder).examples, encode_all(examples))
    return folder


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def manifest_of(scores: Path) -> dict[str, Any]:
    found = read_manifest(scores)
    assert found is not None
    return found


def test_the_command_tells_scores_and_records_what_was_chosen(run: Path) -> None:
    result = trec(run, "--scorer", "recency")
    assert result.exit_code == 0, result.output
    # By the newest item alone the positive ties with i5 behind i3: (1/2 + 1/3) / 2.  Older
    # items put it before i5, but never before i3.
    told = "recency: best on 3 examples of valid with decay 0.5 (MRR 0.500; 4 trials)"
    assert told in result.stderr
    manifest = manifest_of(run / "scores-recency.jsonl")
    assert manifest["chosen"] == {"decay": 0.5}
    assert manifest["valid_examples"] == 3
    assert [t["valid_mrr"] for t in manifest["trials"]] == pytest.approx([5 / 12, 0.5, 0.5, 0.5])
    assert manifest["settings"]["grid"] == BASELINES["recency"].grid
    scores = scores_in(run / "scores-recency.jsonl")[0].scores
    assert scores[0] == pytest.approx(scores[1] * 0.5**2)  # red is two items older than blue
    assert scores[2] == 0.0


def test_the_scored_split_is_never_tuned_on(run: Path) -> None:
    result = trec(run, "--scorer", "recency", "--split", "valid")
    assert "valid is the split that is scored" in result.stderr
    assert manifest_of(run / "scores-recency-valid.jsonl")["chosen"] == {"decay": 0.0}


@pytest.mark.parametrize("name", TUNABLE)
def test_no_tune_gives_the_scores_of_the_defaults_and_is_another_setting(
    run: Path, name: str
) -> None:
    assert trec(run, "--scorer", name).exit_code == 0
    refused = trec(run, "--scorer", name, "--no-tune")
    assert refused.exit_code == 2
    assert "grid" in refused.stderr
    plain = trec(run, "--scorer", name, "--no-tune", "--overwrite")
    assert f"{name}: default settings, " in plain.stderr
    files = RunFolder(run)
    examples = [_wants_the_first("test", number) for number in range(10, 12)]
    train = [
        example(20, "train", ["i0", "i1"], ["i2", "i3"], ["i2"]),
        example(21, "train", ["i1"], ["i3", "i2"], ["i3"]),
    ]
    scorer = learn_baseline(name, {i.item_id: i for i in ITEMS}, train)(BASELINES[name].grid[0])
    found = [record.scores for record in scores_in(files.scores(name))]
    assert found == [scorer(e) for e in examples]


def test_an_output_of_before_tuning_is_known_to_have_other_settings(run: Path) -> None:
    trec(run, "--scorer", "bm25", "--no-tune")
    path = run / "scores-bm25.jsonl.manifest.json"
    text = path.read_text()
    assert '"grid"' in text
    path.write_text(text.replace('"grid"', '"earlier"'))
    assert "grid: not given before" in trec(run, "--scorer", "bm25", "--no-tune").stderr


def test_a_finished_output_is_not_tuned_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TuningPlan, family: Family) -> None:
        raise AssertionError("tuned")

    trec(run, "--scorer", "bm25")
    monkeypatch.setattr(TuningPlan, "run", fail)
    assert "nothing to do" in trec(run, "--scorer", "bm25").stderr


@pytest.mark.parametrize("name", TUNABLE)
def test_the_order_of_lines_changes_neither_choice_nor_scores(tmp_path: Path, name: str) -> None:
    draw = random.Random(5)
    colours = ["red", "blue", "green", "old", "new", "cup", "pot"]
    items = [Item(f"i{n}", {"title": " ".join(draw.sample(colours, 3))}) for n in range(30)]

    def drawn(split: Split, number: int) -> Example:
        ids = [f"i{n}" for n in draw.sample(range(30), 14)]
        return example(number, split, ids[:8], ids[8:], ids[8:9])

    splits: list[Split] = ["train", "valid", "test"]
    examples = [drawn(split, number) for split in splits for number in range(40)]
    forward = write_run(tmp_path / "forward", items, examples)
    backward = write_run(tmp_path / "backward", items[::-1], examples[::-1])
    for folder in (forward, backward):
        assert trec(folder, "--scorer", name).exit_code == 0
    one, other = (manifest_of(RunFolder(f).scores(name)) for f in (forward, backward))
    assert (one["chosen"], one["trials"]) == (other["chosen"], other["trials"])
    scores = {r.example_id: r.scores for r in scores_in(RunFolder(backward).scores(name))}
    for record in scores_in(RunFolder(forward).scores(name)):
        assert record.scores == pytest.approx(scores[record.example_id], abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-tune"], "--no-tune is for --scorer embedding, popularity, random, recency,"),
        (["--tune", "--scorer", "llm"], "cooccurrence or recbole:MODEL, not for llm"),
        (["--no-tune", "--scorer", "blend"], "cooccurrence or recbole:MODEL, not for blend"),
    ],
)
def test_scorers_that_are_not_tuned_this_way_refuse_the_option(
    run: Path, options: list[str], message: str
) -> None:
    result = trec(run, *options)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")


def test_a_config_file_may_say_so_for_all_scorers(run: Path, tmp_path: Path) -> None:
    config = tmp_path / "score.toml"
    config.write_text('[score]\nscorer = "recency"\ntune = false\n')
    assert "not tuned, as asked for" in trec(run, "--config", config).stderr


@pytest.mark.parametrize("name", ["popularity", "random"])
def test_a_scorer_without_settings_says_that_there_is_nothing_to_tune(run: Path, name: str) -> None:
    result = trec(run, "--scorer", name)
    assert f"{name}: there is nothing to tune" in result.stderr
    assert "grid" not in manifest_of(RunFolder(run).scores(name))["settings"]
