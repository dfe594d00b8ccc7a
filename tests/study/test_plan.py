"""A study file becomes arms, or a message that says what is wrong with it."""

from pathlib import Path

import pytest

from tests.study.studies import write_study
from trec_cli.core.errors import InputError, UsageError
from trec_cli.study.plan import Study, read_study
from trec_cli.study.steps import Step, scores_of, steps_of

RECENT = """
seeds = [0, 1]
[prompt]
recent = 2
[summarize]
block-size = 4
[train]
epochs = 1
[vary]
setting = "prompt.recent"
values = [0, 3]
[[arm]]
name = "none"
[[arm]]
name = "hier"
mode = "hier"
train.epochs = 2
[[arm]]
name = "zero"
zero-shot = true
[[arm]]
name = "bm25"
scorer = "bm25"
[[arm]]
name = "random"
scorer = "random"
"""
TOP = 'source = "data"\nmodel = "some/model"\n'


def study_of(tmp_path: Path, arms: str, base: str = TOP) -> Study:
    return read_study(write_study(tmp_path, arms, base))


def steps_by_arm(tmp_path: Path, arms: str) -> dict[str, list[Step]]:
    return steps_of(study_of(tmp_path, arms), Path("out"))


def test_the_varied_setting_makes_an_arm_per_value_where_it_matters(tmp_path: Path) -> None:
    arms = study_of(tmp_path, RECENT).arms
    assert {arm.name: (arm.group, arm.value) for arm in arms} == {
        "none-recent-0": ("none", 0),
        "none-recent-3": ("none", 3),
        "hier-recent-0": ("hier", 0),
        "hier-recent-3": ("hier", 3),
        "zero-recent-0": ("zero", 0),
        "zero-recent-3": ("zero", 3),
        "bm25": ("bm25", None),
        "random": ("random", None),
    }


def test_an_arm_lays_its_settings_over_those_of_the_study(tmp_path: Path) -> None:
    arms = {arm.name: arm for arm in study_of(tmp_path, RECENT).arms}
    assert arms["hier-recent-3"].tables["prompt"] == {"recent": 3}
    assert arms["hier-recent-3"].tables["train"] == {"epochs": 2, "model": "some/model"}
    assert arms["hier-recent-3"].tables["summarize"] == {"block-size": 4, "model": "some/model"}
    assert arms["none-recent-0"].tables["train"]["epochs"] == 1


def test_only_what_draws_at_random_runs_once_per_seed(tmp_path: Path) -> None:
    systems = {arm.name: list(arm.systems()) for arm in study_of(tmp_path, RECENT).arms}
    assert systems["none-recent-0"] == ["none-recent-0@0", "none-recent-0@1"]
    assert systems["random"] == ["random@0", "random@1"]
    assert systems["zero-recent-0"] == ["zero-recent-0"]
    assert systems["bm25"] == ["bm25"]


def test_the_commands_are_those_a_user_would_type(tmp_path: Path) -> None:
    steps = steps_by_arm(tmp_path, RECENT)
    shown = [" ".join(step.arguments) for step in steps["hier-recent-3"][:4]]
    data, summaries = (str(step.output) for step in steps["hier-recent-3"][:2])
    run = data.removesuffix("/examples.jsonl")
    adapter = steps["hier-recent-3"][2].output
    assert shown == [
        f"prepare data --out {run}",
        f"summarize {run} --mode hier --out {summaries} --store out/generations.sqlite "
        "--block-size 4 --model some/model",
        f"train {run} --mode hier --summaries {summaries} --out {adapter} --seed 0 "
        "--recent 3 --epochs 2 --model some/model",
        f"score {run} --mode hier --summaries {summaries} --adapter {adapter} "
        "--out out/arms/hier-recent-3/scores-hier-recent-3@0.jsonl",
    ]
    assert [" ".join(step.arguments) for step in steps["zero-recent-0"][1:]] == [
        f"score {run} --mode none --zero-shot --recent 0 "
        "--out out/arms/zero-recent-0/scores-zero-recent-0.jsonl --model some/model"
    ]


def test_an_arm_may_bring_its_own_summaries(tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.touch()
    arms = f"""
[[arm]]
name = "mine"
summaries = "{mine}"
[[arm]]
name = "other"
mode = "hier"
zero-shot = true
summaries = "{mine}"
"""
    steps = steps_by_arm(tmp_path, arms)
    run = str(steps["mine"][0].output).removesuffix("/examples.jsonl")
    given = f"--summaries {mine}"
    shown = [" ".join(step.arguments) for step in steps["mine"][1:]]
    assert [line.split(" --")[0] for line in shown] == [f"train {run}", f"score {run}"]
    assert all(f"--mode mine {given}" in line for line in shown)
    assert [" ".join(step.arguments) for step in steps["other"][1:]] == [
        f"score {run} --mode hier {given} --zero-shot "
        "--out out/arms/other/scores-other.jsonl --model some/model"
    ]


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("summaries = 'nowhere.jsonl'", "no such file nowhere.jsonl"),
        ("summaries = 'nowhere.jsonl'\nscorer = 'bm25'", "are not for bm25"),
    ],
)
def test_own_summaries_that_cannot_be_used_are_refused(tmp_path: Path, arm: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        study_of(tmp_path, f"[[arm]]\nname = 'mine'\n{arm}\n")


def test_an_arms_own_option_that_its_scorer_does_not_read_is_refused(tmp_path: Path) -> None:
    arm = "[[arm]]\nname = 'mine'\nscorer = 'bm25'\nscore.embedder = 'a/b'\n"
    with pytest.raises(
        InputError, match=r"score\.embedder \(arm mine\) is not for scorer bm25 \(leave it out"
    ):
        study_of(tmp_path, arm)
    # The study's own is for whichever arm reads it.
    bare = arm.replace("score.embedder = 'a/b'", "")
    study = study_of(tmp_path, bare, f"{TOP}\n[score]\nembedder = 'a/b'\n")
    assert "--embedder" not in steps_of(study, Path("out"))["mine"][-1].arguments


def test_arms_share_equal_work(tmp_path: Path) -> None:
    steps = steps_by_arm(tmp_path, RECENT)
    stages = [step.stage for step in dict.fromkeys(s for its in steps.values() for s in its)]
    assert {stage: stages.count(stage) for stage in stages} == {
        "prepare": 1,
        "summarize": 1,
        "train": 8,
        "score": 13,
    }


def test_attention_and_embeddings_keep_their_vectors_in_the_common_store(tmp_path: Path) -> None:
    arms = """
[[arm]]
name = "attention"
mode = "attention"
summarize.embedder = "a/b"
[[arm]]
name = "embedding"
scorer = "embedding"
score.embedder = "a/b"
"""
    steps = steps_by_arm(tmp_path, arms)
    for step in (steps["attention"][1], steps["embedding"][1]):
        words = " ".join(step.arguments)
        assert "--store out/generations.sqlite" in words
        assert "--embedder a/b" in words


def test_texts_learnt_listwise_are_asked_of_the_base_once_for_all_arms(tmp_path: Path) -> None:
    arms = """
[[arm]]
name = "listwise"
prompt.ask = "text"
train.loss = "listwise"
[[arm]]
name = "continued"
prompt.ask = "text"
"""
    steps = steps_by_arm(tmp_path, arms)
    kept = {
        name: [step.stage for step in steps[name] if "--store" in step.arguments]
        for name in ("listwise", "continued")
    }
    assert kept == {"listwise": ["train", "score"], "continued": ["score"]}


def test_true_is_a_flag_false_its_opposite_and_a_list_an_option_for_each(tmp_path: Path) -> None:
    arms = """
[summarize]
chat-template = false
split = ["train", "test"]
[train]
gradient-checkpointing = true
[[arm]]
name = "hier"
mode = "hier"
"""
    steps = steps_by_arm(tmp_path, arms)["hier"]
    assert steps[1].arguments[-7:] == (
        *("--no-chat-template", "--split", "train", "--split", "test"),
        *("--model", "some/model"),
    )
    assert "--gradient-checkpointing" in steps[2].arguments


def test_a_varied_model_is_named_by_its_last_folder(tmp_path: Path) -> None:
    arms = """
[vary]
setting = "train.model"
values = ["a/Small-1B", "b/c/Large 7B"]
[[arm]]
name = "none"
"""
    study = study_of(tmp_path, arms)
    assert [arm.name for arm in study.arms] == ["none-model-Small-1B", "none-model-Large-7B"]
    assert study.arms[1].tables["train"]["model"] == "b/c/Large 7B"


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["none-recent-3", "bm25"], ["none-recent-3", "bm25"]),
        (["bm25", "none"], ["none-recent-0", "none-recent-3", "bm25"]),
    ],
)
def test_some_arms_can_be_chosen_by_their_name_or_that_of_their_table(
    only: list[str], names: list[str], tmp_path: Path
) -> None:
    path = write_study(tmp_path, RECENT, TOP + 'reference = "none-recent-3"\n')
    assert [arm.name for arm in read_study(path, only=only).arms] == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[score]\nseed = 5\n", "score.seed (arm none) is decided by the study"),
        ("[score]\nout = 'x'\n", "score.out (arm none) is decided by the study"),
        ("[prompt]\nmode = 'hier'\n", "prompt.mode (arm none) is decided"),
        ("[train]\nseed = 5\n", "train.seed (arm none) is decided"),
        ("[eval]\nout = 'x'\n", "eval.out is decided by the study"),
        ("[eval]\nreference = 'x'\n", "eval.reference is decided by the study"),
        ("[score]\nsplit = 'valid'\n", "arm none scores split valid, but test is evaluated"),
        ("[eval]\nsplit = 'valid'\n", "arm none scores split test, but valid is evaluated"),
        ("[eval]\nk = 7\n", "metric 'mrr@10' is none of recall@7, mrr@7, ndcg@7, auc"),
    ],
)
def test_what_the_study_decides_cannot_be_set_otherwise(
    text: str, words: str, tmp_path: Path
) -> None:
    path = write_study(tmp_path, text + '[[arm]]\nname = "none"\n', TOP)
    with pytest.raises(InputError) as error:
        read_study(path)
    assert words in str(error.value)


def test_scores_and_evaluation_may_both_be_of_valid(tmp_path: Path) -> None:
    text = "[score]\nsplit = 'valid'\n[eval]\nsplit = 'valid'\nk = [1, 10]\n"
    assert read_study(write_study(tmp_path, text + '[[arm]]\nname = "none"\n', TOP)).arms


@pytest.mark.parametrize("name", ["..", ".", "chance", "a/b", ".hidden", ""])
def test_an_arm_whose_name_would_mislead_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="arm"):
        read_study(write_study(tmp_path, f'[[arm]]\nname = "{name}"\n', TOP))


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("", "names neither source nor run"),
        ('source = "data"\nrun = "runs/data"\n', "names source and run"),
        ('run = "runs/data"\n[prepare]\nseed = 1\n', "run has been prepared already"),
    ],
)
def test_a_study_has_one_source_or_one_run(base: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        study_of(tmp_path, '[[arm]]\nname = "bm25"\nscorer = "bm25"\n', base)


def test_a_run_that_was_made_elsewhere_is_not_prepared(tmp_path: Path) -> None:
    arms = '[[arm]]\nname = "bm25"\nscorer = "bm25"\n'
    study = study_of(tmp_path, arms, 'run = "runs/data"\n')
    (step,) = steps_of(study, Path("out"))["bm25"]
    assert step.arguments[:2] == ("score", "runs/data")


def test_scores_that_are_there_are_compared_and_nothing_is_run(tmp_path: Path) -> None:
    file = tmp_path / "scores-mine.jsonl"
    arm = f'[[arm]]\nname = "mine"\nscores = "{file}"\n'
    with pytest.raises(InputError, match="no such file"):
        study_of(tmp_path, arm, 'run = "runs/data"\n')
    file.write_text("")
    with pytest.raises(InputError, match="call it scores-yours"):
        study_of(tmp_path, arm.replace('"mine"', '"yours"'), 'run = "runs/data"\n')
    study = study_of(tmp_path, arm, 'run = "runs/data"\n')
    assert steps_of(study, Path("out")) == {"mine": []}
    assert scores_of(study.arms[0], Path("out")) == [file]


def test_a_reference_answers_as_much_as_any_arm(tmp_path: Path) -> None:
    arms = (
        '[[arm]]\nname = "few"\nscorer = "bm25"\nscore.limit = 5\n'
        '[[arm]]\nname = "all"\nscorer = "bm25"\n'
    )
    with pytest.raises(InputError, match=r"few has a smaller score\.limit"):
        study_of(tmp_path, arms)
    study = study_of(tmp_path, arms, 'reference = "all"\n' + TOP)
    assert [arm.name for arm in study.widest] == ["all"]


@pytest.mark.parametrize("seeds", ["[0, 0]", "[-1]", "[]"])
def test_seeds_that_cannot_be_told_apart_are_refused(seeds: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed"):
        read_study(write_study(tmp_path, f'seeds = {seeds}\n[[arm]]\nname = "n"\n', TOP))


def test_a_scorer_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    for wrong in ("popularty", "recbole:"):
        text = f'[[arm]]\nname = "n"\nscorer = "{wrong}"\n'
        with pytest.raises(UsageError, match="choose one of llm, embedding, popularity"):
            read_study(write_study(tmp_path, text, TOP))


def test_an_unknown_arm_and_a_missing_reference_are_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path, RECENT, TOP)
    with pytest.raises(UsageError, match="--arm bm52: the study has no such arm; use none-recent"):
        read_study(path, only=["bm52"])
    with pytest.raises(UsageError, match="add --arm none-recent-0, or --set reference=bm25"):
        read_study(path, only=["bm25"])
    assert read_study(path, ["reference=bm25"], ["bm25"]).reference == "bm25"


def test_settings_can_be_replaced_from_outside(tmp_path: Path) -> None:
    path = write_study(tmp_path, RECENT, TOP)
    study = read_study(path, ["source=other place", "train.lora-rank=4", "prepare.seed = 7"])
    assert study.source == "other place"
    assert study.arms[0].tables["train"]["lora-rank"] == 4
    assert study.arms[0].tables["prepare"] == {"seed": 7}
    for wrong in ("source", "=1", "source.x=1"):
        with pytest.raises(UsageError, match="--set"):
            read_study(path, [wrong])


def test_texts_may_name_environment_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_study(tmp_path, '[[arm]]\nname = "none"\n', 'source = "$TREC_DATA/mind"\n')
    monkeypatch.delenv("TREC_DATA", raising=False)
    with pytest.raises(UsageError, match=r"\$TREC_DATA, which is not set"):
        read_study(path)
    monkeypatch.setenv("TREC_DATA", "/somewhere")
    assert read_study(path).source == "/somewhere/mind"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source = ", "is not TOML"),
        ('[[arm]]\nname = "a"', "source"),
        ('source = "x"', "arm"),
        ('source = "x"\n[[arm]]\nname = "a b"', "arm"),
        ('source = "x"\n[[arm]]\nname = "a"\nmodes = "hier"', "modes"),
        ('source = "x"\n[[arm]]\nname = "a"\n[[arm]]\nname = "a"', "two arms are called 'a'"),
        ('source = "x"\nreference = "b"\n[[arm]]\nname = "a"', "use one of a"),
        ('source = "x"\n[vary]\nsetting = "recent"\nvalues = [1]\n[[arm]]\nname = "a"', "setting"),
    ],
)
def test_a_faulty_study_is_named_with_what_is_wrong(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        study_of(tmp_path, text, "")
    assert "study.toml" in str(caught.value)


def test_a_study_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_study(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).resolve().parents[2] / "samples" / "studies").glob("*.toml")),
    ids=lambda path: path.stem,
)
def test_the_sample_studies_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREC_DATA", "data")
    study = read_study(path)
    assert study.arms


def test_tuning_is_switched_off_for_those_who_tune_alone(tmp_path: Path) -> None:
    path = write_study(
        tmp_path, "[score]\ntune = false\n" + RECENT.replace("seeds = [0, 1]", ""), TOP
    )
    words = {name: its[-1].arguments for name, its in steps_of(read_study(path), tmp_path).items()}
    assert "--no-tune" in words["bm25"]
    assert "--no-tune" not in words["none-recent-0"]
