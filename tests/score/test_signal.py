"""``trec score --scorer signal:NAME``: one signal of the blend alone."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tests.score.small_run import make_run
from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.signals.blend import Learner
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories
from trec_cli.signals.learn import learn_shares


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", {"train": 30, "valid": 20, "test": 6})


def trec(run: Path, name: str, *arguments: object) -> Result:
    words = ["score", str(run), "--scorer", f"signal:{name}", *map(str, arguments)]
    return CliRunner().invoke(app, words)


def test_popularity_counts_train_users_as_the_scorer_of_that_name_does(run: Path) -> None:
    assert trec(run, "popularity").exit_code == 0
    CliRunner().invoke(app, ["score", str(run), "--scorer", "popularity"])
    mine = scores_in(run / "scores-signal-popularity.jsonl")
    counts = scores_in(run / "scores-popularity.jsonl")
    for one, other in zip(mine, counts, strict=True):
        assert one.scores == pytest.approx(np.log1p(other.scores), abs=1e-5)


@pytest.mark.parametrize("name", ["follows", "tfidf_last", "vector_nearest", "same_kind", "repeat"])
def test_a_signal_says_of_candidates_what_it_says_of_the_whole_catalogue(
    name: str, run: Path
) -> None:
    assert trec(run, name).exit_code == 0
    catalogue = EncodedCatalogue.of(read_items(run / "items.jsonl"))
    examples = read_examples(run / "examples.jsonl")
    events = Events.of(examples, catalogue.rows)
    signal = Learner(catalogue, events, further=learn_shares).signals()[name]
    asked = [e for e in examples if e.split == "test"]
    whole = signal.everywhere(Histories.of((e.history for e in asked), catalogue.rows))
    for row, record in zip(whole, scores_in(run / f"scores-signal-{name}.jsonl"), strict=True):
        expected = [row[catalogue.rows[item]] for item in record.candidates]
        assert record.scores == pytest.approx(expected, abs=1e-5)


def test_questions_of_train_do_not_see_their_own_users(run: Path) -> None:
    """Of one user alone nothing is known: every count is 0."""
    one = make_run(run.parent / "one", {"train": 1, "valid": 2, "test": 2})
    assert trec(one, "popularity", "--split", "train").exit_code == 0
    (record,) = scores_in(one / "scores-signal-popularity-train.jsonl")
    assert set(record.scores) == {0.0}


def test_a_signal_that_these_items_do_not_have_is_refused_with_those_there_are(run: Path) -> None:
    result = trec(run, "same_colour")
    assert result.exit_code == 2
    assert "there is no such signal of these items" in result.stderr
    assert "same_kind" in result.stderr
