"""The study of protocols: files that can be read, orders, samples, the cascade and the tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.protocols import order, published, tables
from benchmarks.published_industrial import Collection, Question, _examples, make_catalogue
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.records import Example, Item
from trec_cli.evaluate.metrics import Pools, chance_metrics, rank
from trec_cli.study.plan import read_study

FOLDER = Path(order.__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def setting() -> published.Setting:
    """A cycle of letters: each is followed by the next one."""
    items = {i: Item(i, {"title": f"thing {i}"}) for i in LETTERS}
    asked = [Question(f"u{n}", [LETTERS[n % 25]], LETTERS[n % 25 + 1]) for n in range(75)]
    made = [_examples(asked, split) for split in ("train", "valid", "test")]
    return published.Setting(Collection(items, *made), make_catalogue(items, None, Path()))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_study_can_be_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TREC_DATA", "TREC_PROTOCOLS", "TREC_CASCADE"):
        monkeypatch.setenv(name, str(tmp_path))
    (tmp_path / "scores-blend.jsonl").write_text("")
    study = read_study(path)
    assert study.reference == "blend"
    assert {"random", "llm", "llm-no-user"} <= {arm.name for arm in study.arms}


def test_the_study_of_the_papers_figures_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TREC_GAMES", "TREC_LARGER"):
        monkeypatch.setenv(name, str(tmp_path))
    arms = read_study(FOLDER.parent / "paper_figures.toml").arms
    assert {"none-1", "hier-0", "none-3-larger", "hier-0-larger-summariser"} <= {
        a.name for a in arms
    }


def test_chance_is_that_of_the_evaluation() -> None:
    ranks = rank(Pools.of([np.zeros(40)], [np.arange(40) == 3]))
    expected = chance_metrics(ranks, published.KS)
    for k in published.KS:
        assert published.chance(40)[f"ndcg@{k}"] == pytest.approx(expected[f"ndcg@{k}"][0])
        assert published.chance(40)[f"hr@{k}"] == pytest.approx(expected[f"recall@{k}"][0])


def test_an_arm_is_measured_once_and_the_blend_is_above_what_sees_no_user(
    setting: published.Setting, tmp_path: Path
) -> None:
    rows = setting.catalogue.rows
    answers = np.array([rows[e.positives[0]] for e in setting.protocol.test])
    arms = setting.arms(None, tmp_path)
    names = ("no user", "blend", "next_last")
    found = {name: published.measured(name, arms[name], answers, tmp_path) for name in names}
    again = published.measured("blend", lambda: pytest.fail("measured again"), answers, tmp_path)
    assert (again["values"] == found["blend"]["values"]).all()
    compared = published.compare(found, [e.user_id for e in setting.protocol.test])
    assert compared["blend"]["ndcg@10"] > compared["no user"]["ndcg@10"]
    assert compared["no user"]["difference"] < 0 < compared["no user"]["detectable"]
    assert compared["blend"]["difference"] == 0


def test_the_cascade_has_the_blend_s_best_and_counts_what_it_missed(
    setting: published.Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "SHORTLIST", 2)
    published.write_cascade(setting, tmp_path)
    items = read_items(tmp_path / "items.jsonl")
    asked = [e for e in read_examples(tmp_path / "examples.jsonl", items) if e.split == "test"]
    assert len(asked) == 75
    assert len({e.user_id for e in asked}) == 75
    for example in asked:
        (target,) = example.right
        assert len(example.candidates) == 2
        assert (target in example.candidates) == bool(example.positives)


def asked(history: str, target: str) -> Example:
    return Example(
        example_id="e", user_id="u", split="test", history=list(history), candidates=[],
        positives=[target],
    )  # fmt: skip


def test_sampled_wrong_answers_are_distinct_and_not_known() -> None:
    pool = [*LETTERS, *"aaaaabbbbb"]
    example = order._sampled(asked("abc", "d"), pool, 20)
    first, *wrong = example.candidates
    assert first == "d"
    assert len(set(wrong)) == len(wrong) == 20
    assert not set(wrong) & set("abcd")


def test_popular_items_are_drawn_more_often() -> None:
    pool = [*"abcdefgh", *["x"] * 92]
    drawn = [
        order._sampled(replace_id(asked("", "y"), str(n)), pool, 1).candidates[1] for n in range(60)
    ]
    assert drawn.count("x") > 40


def replace_id(example: Example, name: str) -> Example:
    return Example(
        example_id=name, user_id="u", split="test", history=example.history, candidates=[],
        positives=example.positives,
    )  # fmt: skip


def measured(**values: float) -> order.Measured:
    arms = {name: {"auc": value, "ndcg@10": value} for name, value in values.items()}
    return order.Measured(arms, 10)


def test_two_orders_are_compared_arm_by_arm() -> None:
    """Of three pairs one is turned round: tau is (2 - 1) / 3."""
    found = {
        "a": measured(one=0.9, two=0.8, blend=0.7),
        "b": measured(one=0.8, two=0.9, blend=0.7),
    }
    compared = order.compare("a", "b", found)
    assert compared["tau"] == pytest.approx(1 / 3, abs=1e-3)
    assert (compared["best_first"], compared["best_second"]) == ("one", "two")
    assert compared["moved"]["one"] == (1, 2)


def test_every_pair_names_protocols_that_are_measured() -> None:
    names = {name for pair in order.PAIRS for name in pair}
    assert {n for n in names if not n.startswith("published")} <= set(order.PREPARED)


def test_a_table_takes_its_place_and_no_other() -> None:
    page = "before\n<!-- one -->\nold\n<!-- end -->\nbetween\n<!-- two -->\nstays\n<!-- end -->\n"
    made = tables.put(page, "one", ["| a |"])
    assert made == page.replace("\nold\n", "\n\n| a |\n\n")


def _compared(users: int, **systems: float) -> dict[str, Any]:
    return {
        "users": users,
        "systems": {name: {"auc": [value, None, None]} for name, value in systems.items()},
        "compared": {f"{name} auc": {"difference": value} for name, value in systems.items()},
    }


def test_arms_of_an_earlier_run_stay_where_the_reference_is_the_same() -> None:
    earlier = _compared(9, blend=0.7, SASRec=0.6, bm25=0.5)
    now = _compared(9, blend=0.7, bm25=0.55)
    found = tables.joined(earlier, now, "blend")
    assert {name: one["auc"][0] for name, one in found["systems"].items()} == {
        "blend": 0.7,
        "SASRec": 0.6,
        "bm25": 0.55,
    }
    assert found["compared"]["SASRec auc"] == {"difference": 0.6}
    assert tables.joined(earlier, _compared(9, blend=0.71), "blend")["systems"].keys() == {"blend"}
    assert tables.joined(earlier, _compared(8, blend=0.7), "blend")["systems"].keys() == {"blend"}
