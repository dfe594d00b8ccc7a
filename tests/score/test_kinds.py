"""Which scorer reads which option; what it does not read is refused in one way."""

import pytest

from trec_cli.core.errors import UsageError
from trec_cli.core.options import build, declared
from trec_cli.score.kinds import COUNTING, KINDS, check_scorer, foreign, kind_of, refuse_foreign
from trec_cli.score.options import ScoreOptions

SCORERS = [*KINDS, "recbole:SASRec", "signal:follows"]


def options(**values: object) -> ScoreOptions:
    usual = {option.parameter: option.default for option in declared(ScoreOptions)}
    made: ScoreOptions = build(ScoreOptions, {**usual, **values})
    return made


def test_every_option_is_read_by_some_scorer() -> None:
    for option in declared(ScoreOptions):
        asked = [options(scorer=name) for name in SCORERS]
        elsewhere = [options(engine=engine) for engine in ("openai", "ray")]
        assert any(kind_of(one).takes(option) for one in (*asked, *elsewhere)), option.flag


@pytest.mark.parametrize("scorer", SCORERS)
def test_what_is_asked_and_where_it_goes_is_for_every_scorer(scorer: str) -> None:
    common = ["run", "mode", "split", "name", "top", "items", "examples", "out", "seed", "limit"]
    assert foreign(scorer, common) == []
    refuse_foreign(options(scorer=scorer), frozenset(common))


@pytest.mark.parametrize(
    ("values", "typed", "message"),
    [
        ({"scorer": "bm25"}, "recent", "--recent is for --scorer llm, not for bm25"),
        (
            {"scorer": "bm25"},
            "model",
            "--model is for --scorer llm, embedding, blend or sequence, not for bm25",
        ),
        ({"scorer": "embedding"}, "zero_shot", "--zero-shot is for --scorer llm, not for embed"),
        ({"scorer": "random"}, "train_on", "--train-on is for --scorer recbole:MODEL, not for"),
        (
            {"scorer": "recbole:BPR"},
            "embedder",
            "--embedder is for --scorer embedding, blend or sequence, not for",
        ),
        ({"engine": "openai"}, "device", "--device is for --engine local, not for openai"),
        ({}, "top_logprobs", "--top-logprobs is for --engine openai, not for local"),
        ({"tune": False}, "tune", "--no-tune is for --scorer embedding, popularity"),
    ],
)
def test_an_option_of_another_scorer_is_refused_and_whose_it_is_is_said(
    values: dict[str, object], typed: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_foreign(options(**values), frozenset({typed}))
    assert message in str(caught.value)


def test_several_are_named_together() -> None:
    with pytest.raises(UsageError, match=r"^--device is for .*; --recent is for"):
        refuse_foreign(options(scorer="bm25"), frozenset({"recent", "device"}))


def test_a_study_leaves_out_what_an_arm_does_not_read() -> None:
    table = ["max-tokens", "tune", "top-logprobs", "no-such-option"]
    assert foreign("llm", table) == ["tune"]
    assert foreign("bm25", table) == ["max-tokens", "top-logprobs"]
    assert foreign("recbole:BPR", table) == ["max-tokens", "top-logprobs"]
    assert foreign("signal:follows", table) == ["max-tokens", "tune", "top-logprobs"]


@pytest.mark.parametrize("name", ["", "recbole:", "Llm", "popular"])
def test_an_unknown_scorer_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=f"--scorer {name}: choose one of llm, embedding, popul"):
        check_scorer(name)


def test_those_that_count_are_known() -> None:
    for name in (*COUNTING, "recbole:SASRec"):
        check_scorer(name)
