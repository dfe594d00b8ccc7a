"""``trec score --scorer blend``: what it learns from, and that it is kept and taken again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs, to_builtins
from typer.testing import CliRunner, Result

from tests.score.small_run import make_run
from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.jsonl import encode_all, read_examples, read_items
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.core.outputs import write_lines
from trec_cli.core.progress import Silent
from trec_cli.core.records import Example
from trec_cli.score.blend import make_blend_job
from trec_cli.score.job import read_material
from trec_cli.score.options import Asked
from trec_cli.signals.blend import Blend, Learner, Pairs, load_logit
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events
from trec_cli.signals.reasons import find_reasons


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"train": 30, "valid": 20, "test": 6})


def trec(run: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", str(run), "--scorer", "blend", *map(str, arguments)])


def fields(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_every_candidate_gets_a_score_and_the_weights_are_kept(run: Path) -> None:
    told = fields(trec(run, "--json"))
    assert (told["reused"], told["questions"]) == (False, 50)
    tested = [e for e in read_examples(run / "examples.jsonl") if e.split == "test"]
    records = scores_in(run / "scores-blend.jsonl")
    assert [r.candidates for r in records] == [e.candidates for e in tested]
    manifest = read_manifest(run / "model-blend.json")
    assert manifest is not None
    assert manifest["sha256"] == file_hash(run / "model-blend.json")
    assert manifest["settings"]["learnt_from"] == ["train", "valid"]


def test_what_was_fitted_is_taken_again_to_the_same_bytes(run: Path) -> None:
    trec(run)
    before = (run / "model-blend.json").stat().st_mtime_ns
    told = fields(trec(run, "--name", "again", "--json"))
    assert told["reused"] is True
    assert (run / "model-blend.json").stat().st_mtime_ns == before
    one, other = ((run / f"scores-{name}.jsonl").read_bytes() for name in ("blend", "again"))
    assert one == other
    assert "nothing to do" in trec(run).stderr


def test_what_other_signals_have_begun_is_not_continued(run: Path) -> None:
    assert trec(run).exit_code == 0
    out = run / "scores-blend.jsonl"
    manifest = read_manifest(out)
    assert manifest is not None
    header = json.dumps({"settings": manifest["settings"]}).encode() + b"\n"
    (run / ".scores-blend.jsonl.partial").write_bytes(header + out.read_bytes().splitlines(True)[0])
    assert "nothing to do" in trec(run).stderr, "finished scores stay"
    out.unlink()
    refused = trec(run)
    assert refused.exit_code == 2
    assert "signals: not given before, 2 now" in refused.stderr
    assert trec(run, "--overwrite").exit_code == 0


def test_other_examples_or_another_seed_are_fitted_again(run: Path) -> None:
    trec(run)
    assert fields(trec(run, "--seed", 1, "--name", "seed", "--json"))["reused"] is False
    lines = (run / "examples.jsonl").read_bytes().splitlines(keepends=True)
    (run / "examples.jsonl").write_bytes(b"".join(lines[1:]))
    assert fields(trec(run, "--seed", 1, "--name", "fewer", "--json"))["reused"] is False


def test_a_split_that_is_scored_gives_no_weight(run: Path) -> None:
    told = fields(trec(run, "--split", "valid", "--json"))
    assert told["questions"] == 30
    assert not (run / "model-blend.json").exists()
    assert (run / "model-blend-train.json").exists()


def test_a_damaged_model_is_an_input_error(run: Path) -> None:
    trec(run)
    (run / "model-blend.json").write_text("{}")
    result = trec(run, "--name", "again")
    assert result.exit_code == 3
    assert "is no saved blend" in result.stderr


def test_without_questions_to_learn_from_it_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"test": 3})
    result = trec(run)
    assert result.exit_code == 2
    assert "learns its weights from questions of split valid or train" in result.stderr


def _ask_about_tomorrow(tmp_path: Path, users: int = 30, *, retrieved: bool = True) -> Path:
    """Make a run of split predict alone; items of one kind follow each other."""
    run = make_run(tmp_path / "run", {"test": 1})
    draws = np.random.default_rng(0)
    examples = [
        Example(
            example_id=f"u{n}-predict",
            user_id=f"u{n}",
            split="predict",
            history=[f"i{2 * i + n % 2}" for i in draws.permutation(12)[:5]],
            candidates=[f"i{i}" for i in draws.permutation(24)[:12]] if retrieved else [],
            positives=[],
        )
        for n in range(users)
    ]
    write_lines(run / "examples.jsonl", encode_all(examples))
    return run


def test_predictions_alone_learn_from_the_newest_item_of_each_history(tmp_path: Path) -> None:
    run = _ask_about_tomorrow(tmp_path)
    told = fields(trec(run, "--split", "predict", "--top", "4", "--json"))
    assert told["questions"] == 30
    asked = {e.user_id: e for e in read_examples(run / "examples.jsonl")}
    lines = (run / "recommendations-blend.jsonl").read_text().splitlines()
    lists = [json.loads(line) for line in lines]
    assert [one["user_id"] for one in lists] == list(asked)
    reasons = [(one, item.get("because")) for one in lists for item in one["items"]]
    assert any(because for _, because in reasons)
    for one, because in reasons:
        if because:
            assert because["history_item"] in asked[one["user_id"]].history
    trec(run, "--split", "predict", "--top", "4", "--out", run / "lists.csv")
    assert (run / "lists.csv").read_text().startswith("user_id,item_id,rank,score\n")


def test_reasons_are_those_of_trec_recommend(tmp_path: Path) -> None:
    run = _ask_about_tomorrow(tmp_path, users=8)
    trec(run, "--split", "predict", "--top", "24")
    job = make_blend_job(Asked(run=run, split="predict"), Silent())
    blend = job._blend
    assert blend.learner.catalogue.rows.keys() == read_items(run / "items.jsonl").keys()
    for line, e in zip(
        (run / "recommendations-blend.jsonl").read_text().splitlines(), job.examples, strict=True
    ):
        items = json.loads(line)["items"]
        chosen = [item["item_id"] for item in items]
        pairs = Pairs.of([e.history], [chosen], blend.learner.catalogue.rows)
        named = [r and to_builtins(r) for r in find_reasons(blend, pairs)]
        assert [item.get("because") for item in items] == named


def test_without_candidates_it_names_what_recommends(tmp_path: Path) -> None:
    run = _ask_about_tomorrow(tmp_path, retrieved=False)
    for arguments in (["--split", "predict"], []):
        result = trec(run, *arguments, "--top", "10")
        assert result.exit_code == 3
        assert "trec recommend" in " ".join(result.stderr.split())


def test_a_stream_leaves_nothing_behind(run: Path) -> None:
    before = set(run.iterdir())
    result = trec(run, "--out", "-", "--quiet")
    assert len(result.stdout.splitlines()) == 6
    assert set(run.iterdir()) == before


def test_train_is_scored_in_the_order_of_the_file_whatever_the_folds(run: Path) -> None:
    assert trec(run, "--split", "train").exit_code == 0
    train = [e for e in read_examples(run / "examples.jsonl") if e.split == "train"]
    records = scores_in(run / "scores-blend-train.jsonl")
    assert [(r.example_id, r.candidates) for r in records] == [
        (e.example_id, e.candidates) for e in train
    ]


def test_the_own_answer_of_a_train_question_changes_no_score_of_it(run: Path) -> None:
    """With kept weights, only the counts could know which candidate a user took."""
    examples = read_examples(run / "examples.jsonl")

    def scored(positive: int, name: str) -> list[float]:
        first = structs.replace(examples[0], positives=[examples[0].candidates[positive]])
        write_lines(run / "examples.jsonl", encode_all([first, *examples[1:]]))
        material = read_material(Asked(run=run, split="train"), "blend")
        catalogue = EncodedCatalogue.of(material.items)
        events = Events.of(material.everything, catalogue.rows)
        blend = Blend(Learner(catalogue, events), load_logit(run / name))
        return blend.score(material.examples[:1])[0]

    trec(run)
    assert scored(0, "model-blend.json") == scored(1, "model-blend.json")


def test_what_took_long_is_taken_again_and_made_again_when_examples_grow(run: Path) -> None:
    first = trec(run, "--json")
    assert "cooccurrence, lsa made anew and kept in" in first.stderr
    assert fields(first)["learnt_kept"] == 0
    again = fields(trec(run, "--name", "again", "--json"))
    assert (again["learnt_made"], again["learnt_kept"]) == (0, 3)
    examples = read_examples(run / "examples.jsonl")
    more = structs.replace(examples[0], example_id="more", user_id="more", history=["i1", "i2"])
    write_lines(run / "examples.jsonl", encode_all([*examples, more]))
    grown = trec(run, "--name", "grown", "--json")
    assert "cooccurrence made anew" in grown.stderr
    assert "lsa taken from" in grown.stderr


def test_without_times_split_train_alone_is_counted_and_one_is_told(run: Path) -> None:
    told = trec(run, "--json")
    assert "counted: split train alone, since examples of split valid have no times" in told.stderr
    assert "without recent popularity" in told.stderr
    assert fields(told)["renewed"] == 0


def test_in_a_split_by_time_older_answers_are_counted(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trec_cli.signals.renewal.LEAST_ASKED", 5)
    begin = {"train": 0, "valid": 100, "test": 200}
    timed = [
        structs.replace(example, timestamp=begin[example.split] + n)
        for n, example in enumerate(read_examples(run / "examples.jsonl"))
    ]
    write_lines(run / "examples.jsonl", encode_all(timed))
    result = trec(run, "--json")
    told = fields(result)
    assert (told["renewed"], told["questions"]) == (20, 20)
    assert "recent" in told["weights"]
    assert "20 answers of split valid, all older than the questions" in result.stderr
    manifest = read_manifest(run / "model-blend.json")
    assert manifest is not None
    assert manifest["settings"]["renewed"] == ["valid"]
    assert manifest["settings"]["cut"] == "between splits"
    assert fields(trec(run, "--name", "again", "--json"))["reused"] is True


def test_an_embedder_and_sequence_models_are_further_signals_and_are_kept(
    run: Path, tiny_embedder: Path
) -> None:
    chosen = ["--embedder", tiny_embedder, "--device", "cpu", "--json"]
    told = fields(trec(run, "--name", "more", *chosen))
    assert {"sequence", "next_near", "together_near"} < set(told["weights"])
    kept = sorted(path.name for path in (run / "learnt-blend").iterdir())
    assert sum(name.startswith("sequence-") for name in kept) == 3
    again = fields(trec(run, "--name", "again", *chosen))
    assert (again["reused"], again["learnt_made"]) == (True, 0)
    one, other = ((run / f"scores-{name}.jsonl").read_bytes() for name in ("more", "again"))
    assert one == other
    none = fields(trec(run, "--name", "none", "--sequence-models", 0, *chosen))
    assert "sequence" not in none["weights"]


def test_questions_of_train_are_answered_by_models_that_have_not_seen_the_user(
    run: Path, tiny_embedder: Path
) -> None:
    chosen = ["--embedder", tiny_embedder, "--device", "cpu", "--split", "train", "--json"]
    told = fields(trec(run, *chosen))
    assert "sequence" in told["weights"]
    kept = (run / "learnt-blend").glob("sequence-*")
    assert len(list(kept)) == 3  # no further one for the weights, and none for the scores
