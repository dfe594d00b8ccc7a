"""The scorers without a language model, against values worked out by hand."""

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import typer

from trec_cli.commands.app import app
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Example, Item, Split
from trec_cli.core.seeds import generator
from trec_cli.score.baselines import BASELINES, learn_baseline
from trec_cli.score.kinds import COUNTING, check_scorer
from trec_cli.score.tuning import Scorer, Settings

TEXTS = {
    "knife": "chef knife steel",
    "board": "cutting board",
    "pan": "steel pan",
    "tent": "tent for two",
    "stove": "camping stove",
    "blank": "",
    "cup": "抹茶 cup\nred",
}
ITEMS = {name: Item(name, {"title": text}) for name, text in TEXTS.items()}


def _example(
    user: str,
    history: Sequence[str],
    candidates: Sequence[str],
    positives: Sequence[str] = (),
    split: Split = "test",
    example_id: str = "",
) -> Example:
    return Example(
        example_id=example_id or f"{user}-{split}",
        user_id=user,
        split=split,
        history=list(history),
        candidates=list(candidates),
        positives=list(positives or candidates[:1]),
    )


TRAIN = [
    _example("u1", ["knife", "board"], ["pan", "tent"], split="train"),
    _example("u1", ["knife", "board", "pan"], ["stove", "tent"], split="train", example_id="u1b"),
    _example("u2", ["knife"], ["pan", "tent"], split="train"),
    _example("u3", ["board"], ["stove"], split="train"),
]


def _default(
    name: str, items: Mapping[str, Item], examples: Sequence[Example], seed: int = 0
) -> Scorer:
    return learn_baseline(name, items, examples, seed)(BASELINES[name].grid[0])


def _scores(name: str, example: Example, examples: Sequence[Example] = TRAIN) -> list[float]:
    return _default(name, ITEMS, examples, seed=7)(example)


def _with(settings: Settings, name: str, items: Mapping[str, Item], asked: Example) -> list[float]:
    return learn_baseline(name, items, TRAIN)(settings)(asked)


def test_popularity_counts_train_users_once_per_item_and_no_negative() -> None:
    asked = _example("u9", [], ["knife", "board", "pan", "stove", "tent", "cup"])
    assert _scores("popularity", asked) == [2, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("name", ["popularity", "cooccurrence"])
def test_what_other_splits_hold_is_never_learnt_from(name: str) -> None:
    asked = _example("u1", ["knife"], ["cup", "pan"], ["cup"])
    later = [
        _example("u1", ["knife", "cup"], ["tent"], split="test", example_id="later"),
        _example("u8", ["knife", "cup"], ["tent"], split="valid"),
        asked,
    ]
    assert _scores(name, asked, [*TRAIN, *later]) == _scores(name, asked)


@pytest.mark.parametrize("name", ["popularity", "cooccurrence"])
def test_without_train_examples_the_message_says_what_to_do(name: str) -> None:
    asked = _example("u1", ["knife"], ["pan"])
    with pytest.raises(UsageError, match="bm25 or recency"):
        _scores(name, asked, [asked])


def test_random_depends_on_seed_user_and_example_alone() -> None:
    one = _example("u1", ["knife"], ["pan", "tent"])
    again = _example("u1", [], ["stove", "cup"])
    other_user = _example("u2", ["knife"], ["pan", "tent"], example_id="u1-test")
    other_example = _example("u1", ["knife"], ["pan", "tent"], example_id="x")
    scorer = _default("random", ITEMS, [], seed=7)
    assert scorer(one) == scorer(one) == scorer(again) == _scores("random", one)
    draws = [scorer(one), scorer(other_user), scorer(other_example)]
    draws.append(_default("random", ITEMS, [], seed=8)(one))
    assert len({tuple(draw) for draw in draws}) == 4
    assert all(0 <= value < 1 for draw in draws for value in draw)


def test_recency_is_the_cosine_with_the_last_item_alone() -> None:
    texts = {"a": "red cup", "b": "red pot", "c": "blue pot", "d": "green hat"}
    items = {name: Item(name, {"title": text}) for name, text in texts.items()}
    asked = _example("u", ["c", "a"], ["b", "c", "d", "a"])
    scores = _default("recency", items, [], 0)(asked)
    twice, once = math.log(5 / 3) + 1, math.log(5 / 2) + 1
    assert scores[0] == pytest.approx(
        twice**2 / (math.hypot(twice, once) * math.hypot(twice, twice))
    )
    assert scores[1:3] == [0.0, 0.0]
    assert scores[3] == pytest.approx(1.0)


def test_bm25_takes_the_whole_history_as_query() -> None:
    texts = {"a": "red cup", "b": "red pot", "c": "pot pot"}
    items = {name: Item(name, {"title": text}) for name, text in texts.items()}
    scores = _default("bm25", items, [], 0)(_example("u", ["a", "c"], ["b", "a"]))
    common, rare = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    assert scores[0] == pytest.approx(common + 2 * common)
    assert scores[1] == pytest.approx(common + rare)


def test_cooccurrence_is_a_decayed_sum_of_cosines() -> None:
    asked = _example("u9", ["knife", "board"], ["pan", "stove", "tent"])
    scores = _scores("cooccurrence", asked)
    # u1 took knife, board, pan, stove; u2 knife, pan; u3 board, stove.
    assert scores == pytest.approx([0.8 * 2 / 2 + 1 / 2, 0.8 / 2 + 2 / 2, 0])


def test_a_decay_lets_older_items_speak_for_a_candidate_by_recency() -> None:
    texts = {"a": "red", "b": "blue", "c": "green"}
    items = {name: Item(name, {"title": text}) for name, text in texts.items()}
    asked = _example("u", ["a", "b", "c"], ["a", "b", "c"])
    assert _with({"decay": 0.0}, "recency", items, asked) == pytest.approx([0, 0, 1])
    assert _with({"decay": 0.5}, "recency", items, asked) == pytest.approx([0.25, 0.5, 1])


def test_b_and_decay_of_bm25_follow_the_formula() -> None:
    texts = {"a": "red cup", "b": "red", "c": "pot pot pot"}
    items = {name: Item(name, {"title": text}) for name, text in texts.items()}
    asked = _example("u", ["a", "c"], ["b", "c"])
    red, pot = math.log(1 + 1.5 / 2.5), math.log(1 + 2.5 / 1.5)
    assert _with({"b": 0.0, "decay": 0.5}, "bm25", items, asked) == pytest.approx(
        [0.5 * red, 3 * pot * 3 * 2.2 / (3 + 1.2)]  # the query holds pot three times
    )
    short = 1.2 * (0.5 + 0.5 * 1 / 2)  # one term, two in the mean
    scores = _with({"b": 0.5, "decay": 1.0}, "bm25", items, asked)
    assert scores[0] == pytest.approx(red * 2.2 / (1 + short))


def test_without_discount_a_popular_candidate_keeps_its_popularity() -> None:
    asked = _example("u9", ["knife", "board"], ["pan", "stove", "tent"])
    # u1 took knife, board, pan, stove; u2 knife, pan; u3 board, stove: two takers each.
    scores = _with({"discount": 0.0, "decay": 0.5}, "cooccurrence", ITEMS, asked)
    assert scores == pytest.approx([(0.5 * 2 + 1) / 2**0.5, (0.5 + 2) / 2**0.5, 0])


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_scorer_has_four_settings_to_try_or_none(name: str) -> None:
    grid = BASELINES[name].grid
    assert (len(grid), grid[0]) == (1, {}) if name in {"popularity", "random"} else len(grid) == 4
    assert all(grid.count(settings) == 1 for settings in grid)


def test_an_item_is_no_evidence_for_itself_by_cooccurrence() -> None:
    asked = _example("u9", ["knife"], ["knife", "tent", "pan"])
    assert _scores("cooccurrence", asked) == pytest.approx([0, 0, 1])
    assert _scores("cooccurrence", asked)[0] == 0.0


@pytest.mark.parametrize("name", ["recency", "bm25", "cooccurrence"])
def test_an_empty_history_gives_one_constant_score(name: str) -> None:
    assert _scores(name, _example("u9", [], ["pan", "cup", "blank"])) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", list(BASELINES))
def test_items_that_nobody_knows_are_no_error(name: str) -> None:
    scores = _scores(name, _example("u9", ["gone", "knife"], ["new", "pan", "blank"]))
    assert len(scores) == 3
    if name != "random":
        assert scores[0] == scores[2] == 0.0
        assert scores[1] > 0.0


@pytest.mark.parametrize("name", ["recency", "bm25"])
def test_text_of_any_script_and_with_newlines_is_compared(name: str) -> None:
    items = {**ITEMS, "tea": Item("tea", {"title": "宇治 抹茶"})}
    asked = _example("u9", ["cup"], ["tea", "pan"])
    scores = _default(name, items, [], 0)(asked)
    assert scores[0] > 0.0
    assert scores[1] == 0.0


@pytest.mark.parametrize("name", ["popularity", "recency", "bm25", "cooccurrence"])
def test_equal_texts_and_equal_counts_tie_exactly_whatever_the_ids(name: str) -> None:
    items = {
        **ITEMS,
        "a1": Item("a1", {"title": "steel knife"}),
        "z9": Item("z9", {"title": "steel knife"}),
    }
    train = [*TRAIN, _example("u5", ["pan", "a1"], ["z9"], split="train")]
    forward = _default(name, items, train, 0)(_example("u9", ["pan"], ["a1", "z9"]))
    assert forward[0] == forward[1] > 0.0


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "random"])
def test_the_order_of_candidates_and_of_items_changes_nothing(name: str) -> None:
    candidates = ["pan", "stove", "tent", "cup", "blank"]
    one = _scores(name, _example("u9", ["knife", "board"], candidates))
    backwards = dict(reversed(ITEMS.items()))
    scorer = _default(name, backwards, TRAIN[::-1], 0)
    other = scorer(_example("u9", ["knife", "board"], candidates[::-1]))
    assert one == other[::-1]


@pytest.mark.parametrize("name", ["recency", "bm25", "cooccurrence"])
def test_sums_are_equal_to_the_last_bit_whatever_the_order_of_the_file(name: str) -> None:
    words = [f"word{number}" for number in range(60)]
    draws = generator(0, "texts")
    texts = {f"i{n}": " ".join(draws.choice(words, 12)) for n in range(40)}
    items = {item: Item(item, {"title": text}) for item, text in texts.items()}
    ids = list(items)
    taken = [draws.choice(ids, 9).tolist() for _ in range(30)]
    train = [_example(f"u{n}", one, ids[:2], split="train") for n, one in enumerate(taken)]
    asked = _example("u99", ids[:9], ids[9:])
    settings = BASELINES[name].grid[-1]
    one = learn_baseline(name, items, train)(settings)(asked)
    shuffled = {ids[n]: items[ids[n]] for n in draws.permutation(len(ids))}
    turned = [train[n] for n in draws.permutation(len(train))]
    assert learn_baseline(name, shuffled, turned)(settings)(asked) == one


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="popularity, random, recency, bm25, cooccurrence"):
        learn_baseline("best", ITEMS, TRAIN)


def test_the_help_of_score_names_every_baseline() -> None:
    group: Any = typer.main.get_command(app)
    scorer = next(p for p in group.commands["score"].params if p.name == "scorer")
    assert ", ".join(BASELINES) in scorer.help


def test_baselines_need_no_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers'): sys.modules[name] = None\n"
        "from trec_cli.core.records import Example, Item\n"
        "from trec_cli.score.baselines import BASELINES, learn_baseline\n"
        "example = Example(example_id='e', user_id='u', split='train', history=['a'],\n"
        "                  candidates=['b'], positives=['b'])\n"
        "items = {'a': Item('a', {'title': 'x'}), 'b': Item('b', {'title': 'x'})}\n"
        "for name, baseline in BASELINES.items():\n"
        "    learn_baseline(name, items, [example])(baseline.grid[-1])(example)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_baseline_is_known_by_name() -> None:
    assert set(COUNTING) == set(BASELINES)
    for name in (*BASELINES, "llm", "embedding", "recbole:BPR"):
        check_scorer(name)


def test_a_train_question_is_answered_by_the_counts_of_other_users() -> None:
    asked = TRAIN[0]  # u1: knife, board; then pan, later stove
    assert _scores("popularity", asked) == [1, 0]  # pan: u2 alone
    later = _example("u1", asked.history, ["pan", "stove", "cup"], ["pan"])
    assert _scores("popularity", later) == [2, 2, 0]


@pytest.mark.parametrize("name", ["popularity", "cooccurrence"])
@pytest.mark.parametrize("settings", BASELINES["cooccurrence"].grid)
def test_scores_of_split_train_are_those_without_the_own_user(
    name: str, settings: Settings
) -> None:
    for asked in TRAIN:
        others = [example for example in TRAIN if example.user_id != asked.user_id]
        expected = learn_baseline(name, ITEMS, others)(settings)(asked)
        found = learn_baseline(name, ITEMS, TRAIN)(settings)(asked)
        assert found == pytest.approx(expected, abs=1e-12)


def test_an_answer_that_nobody_else_took_gets_nothing_in_train() -> None:
    alone = [*TRAIN, _example("u4", ["knife"], ["cup", "tent"], ["cup"], split="train")]
    for name in ("popularity", "cooccurrence"):
        assert _scores(name, alone[-1], alone) == [0.0, 0.0]
