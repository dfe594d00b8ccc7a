"""The audit finds every planted shortcut, and nothing where there is none."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from tests.audit.worlds import World, make, words
from tests.prepare.helpers import collection, prepare, question
from trec_cli.audit.features import EMBEDDING, Known
from trec_cli.audit.run import LEVEL, Audit, audit_examples
from trec_cli.core.records import Example, Item
from trec_cli.prepare import arrange, negatives
from trec_cli.prepare.settings import parse_sizes


def audited(world: World, seed: int = 3, *, without_text: bool = False) -> Audit:
    items, examples = make(world, seed)
    found = audit_examples(items, examples, without_text=without_text)
    assert found is not None
    return found


CLEAN = World()
RISING = World(right=lambda random, world: int(world.items * random.beta(4, 1)))
FIRST = World(arrange=lambda _, pool, right: [right, *(item for item in pool if item != right)])
MIDDLE = World(
    arrange=lambda _, pool, right: [
        *[item for item in pool if item != right][:5],
        right,
        *[item for item in pool if item != right][5:],
    ]
)
FRESH = World(
    history=lambda random, _: int(random.integers(100)),
    wrong=lambda random, _: int(random.integers(100)),
    right=lambda random, _: int(100 + random.integers(50)),
)
POPULAR = World(
    history=lambda random, world: int(random.beta(1, 4) * world.items) * 37 % world.items,
    right=lambda random, world: int(random.beta(1, 4) * world.items) * 37 % world.items,
)
LONG = World(
    title=lambda random, item: words(random, 12 if item % 3 == 0 else 4),
    right=lambda random, _: int(random.integers(50)) * 3,
)
SORTED_TEXTS = World(
    more={"blurb": lambda _, item: "x y" if item % 3 == 0 else ""},
    right=lambda random, _: int(random.integers(50)) * 3,
)
CATEGORY = World(
    more={"category": lambda _, item: "reds" if item % 5 == 0 else "blue"},
    right=lambda random, _: int(random.integers(30)) * 5,
)
PRICE = World(
    more={"price": lambda _, item: f"${item * 37 % 101}.99"},
    right=lambda random, world: next(
        item for item in random.permutation(world.items).tolist() if item * 37 % 101 > 60
    ),
)
WORDS = World(
    items=600,
    title=lambda random, item: f"{words(random, 3)} {'deluxe' if item % 3 == 0 else 'simple'}",
    right=lambda random, _: int(random.integers(200)) * 3,
)


@pytest.mark.parametrize(
    ("world", "signal"),
    [
        pytest.param(RISING, "id order", id="ids"),
        pytest.param(FIRST, "candidate order", id="right answer first"),
        pytest.param(MIDDLE, "candidate order", id="right answer in the middle"),
        pytest.param(FRESH, "in no history", id="population"),
        pytest.param(POPULAR, "times in histories", id="popularity"),
        pytest.param(LONG, "text length", id="length"),
        pytest.param(SORTED_TEXTS, "number of texts", id="number of texts"),
        pytest.param(CATEGORY, "category", id="category"),
        pytest.param(PRICE, "price", id="price"),
        pytest.param(WORDS, "words", id="words"),
    ],
)
def test_every_planted_shortcut_is_found_and_named(world: World, signal: str) -> None:
    found = audited(world)
    assert found.no_user.low > 0.7
    best = max(found.signals.values())
    assert found.signals[signal] > best - 0.03, found.signals
    assert found.is_alarming
    (warning,) = found.warnings()
    assert "never sees the user" in warning


def test_without_a_shortcut_the_audit_stays_at_chance() -> None:
    found = [audited(CLEAN, seed) for seed in range(20)]
    outside = sum(not each.no_user.low <= 0.5 <= each.no_user.high for each in found)
    assert outside <= 3, "of 20 intervals of 95 % one is expected not to hold 0.5"
    assert np.mean([each.no_user.value for each in found]) == pytest.approx(0.5, abs=0.02)
    assert not [each.no_user for each in found if each.is_alarming]
    assert not any(each.warnings() for each in found)


def test_what_only_the_user_tells_is_no_shortcut() -> None:
    items, examples = make(CLEAN, 1)
    ids = list(items)
    after = {item: ids[(index + 1) % len(ids)] for index, item in enumerate(ids)}
    asked: list[Example] = []
    for example in examples:
        right = after[example.history[-1]]
        wrong = [i for i in example.candidates if i not in (right, *example.positives)][:9]
        pool = sorted([right, *wrong])
        turned = np.random.default_rng(len(asked)).permutation(len(pool)).tolist()
        asked.append(
            msgspec.structs.replace(
                example, candidates=[pool[index] for index in turned], positives=[right]
            )
        )
    found = audit_examples(items, asked, without_text=True)
    assert found is not None
    assert found.no_user.low < 0.55
    assert found.no_text is not None
    assert found.no_text.value > found.no_user.value + 0.1, "what follows what needs no text"


def test_the_answers_of_valid_weigh_nothing_where_valid_is_audited_without_texts() -> None:
    """Pure chance: fitted on its own answers, the blend would look better than it is."""
    items, examples = make(CLEAN, 1)
    valid = [
        msgspec.structs.replace(each, split="valid" if each.split == "test" else "train")
        for each in examples
    ]
    turned = [
        msgspec.structs.replace(each, positives=[c for c in each.candidates if c != p][:1])
        if each.split == "valid"
        else each
        for each in valid
        for p in each.positives[:1]
    ]
    fitted = []
    for asked in (valid, turned):
        without = audit_examples(items, asked, "valid", without_text=True)
        bare = [each for each in asked if each.split == "train"]
        alone = audit_examples(
            items,
            [*bare, *(msgspec.structs.replace(e, split="test") for e in asked if e not in bare)],
            without_text=True,
        )
        assert without is not None
        assert alone is not None
        assert without.no_text == alone.no_text
        fitted.append(without.no_text)
    assert fitted[0] != fitted[1]


def test_no_history_of_an_asked_user_changes_a_score() -> None:
    items, examples = make(POPULAR, 2)
    changed = [
        msgspec.structs.replace(
            each, history=each.history[::-1][:2] if each.split == "test" else each.history
        )
        for each in examples
    ]
    one, two = audit_examples(items, examples), audit_examples(items, changed)
    assert one is not None
    assert two is not None
    for first, second in zip(one.scores, two.scores, strict=True):
        np.testing.assert_array_equal(first, second)


def test_answers_of_the_asked_split_change_no_score() -> None:
    items, examples = make(POPULAR, 2)
    changed = [
        msgspec.structs.replace(each, positives=[each.candidates[-1]])
        if each.split == "test"
        else each
        for each in examples
    ]
    one, two = audit_examples(items, examples), audit_examples(items, changed)
    assert one is not None
    assert two is not None
    for first, second in zip(one.scores, two.scores, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_order_of_examples_changes_nothing_that_is_told() -> None:
    items, examples = make(LONG, 4)
    turned = [examples[index] for index in np.random.default_rng(0).permutation(len(examples))]
    one, two = audit_examples(items, examples), audit_examples(items, turned)
    assert one is not None
    assert two is not None
    assert two.no_user.value == pytest.approx(one.no_user.value, abs=1e-4)
    assert two.signals == pytest.approx(one.signals, abs=1e-4)


def test_the_same_audit_twice_is_the_same() -> None:
    assert audited(LONG).as_dict() == audited(LONG).as_dict()


def test_a_split_without_another_to_learn_from_teaches_itself_by_folds() -> None:
    items, examples = make(replace(FRESH, train=0, valid=0, test=200), 0)
    found = audit_examples(items, examples)
    assert found is not None
    assert found.no_user.low > 0.9
    worlds = [make(replace(CLEAN, train=0, valid=0, test=200), seed) for seed in range(4)]
    at_chance = [audit_examples(*world) for world in worlds]
    assert np.mean([each.no_user.value for each in at_chance if each]) == pytest.approx(
        0.5, abs=0.04
    )


def test_train_may_be_asked_by_folds() -> None:
    items, examples = make(CLEAN, 5)
    found = audit_examples(items, examples, "train")
    assert found is not None
    assert found.no_user.value == pytest.approx(0.5, abs=0.06), "no count holds its own answer"


def drawn_by_popularity() -> tuple[dict[str, Item], list[Example]]:
    """Ask 700 users whose answers are few and popular, or many and rare, whoever is asked."""
    random = np.random.default_rng(0)
    ids = [f"n{n}" for n in range(400)]
    taken = [[*random.choice(ids[200:], 3).tolist(), ids[int(200 * random.random() ** 3)]]
             for _ in range(700)]  # fmt: skip
    examples, _ = prepare(
        collection([question(f"u{n}", items) for n, items in enumerate(taken)], ids),
        population="seen",
        negatives="popularity",
        sizes=parse_sizes("0.7", "0", "0.3"),
        number=5,
    )
    return {item: Item(item, {}) for item in ids}, examples


def test_negatives_that_are_answers_of_the_own_fold_tell_nothing_in_any_split() -> None:
    """Nothing depends on the user, so the right value is 0.5 in train as in test."""
    found = audit_examples(*drawn_by_popularity())
    assert found is not None
    assert found.train is not None
    assert found.no_user.low < 0.5 < found.no_user.high
    assert found.train.value == pytest.approx(0.5, abs=0.04)
    assert not found.warnings()


def test_negatives_that_are_answers_of_all_of_train_are_found_in_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Split test is clean, and could not tell."""
    for module in (arrange, negatives):
        monkeypatch.setattr(module, "pool_of", lambda question: question.split)
    found = audit_examples(*drawn_by_popularity())
    assert found is not None
    assert found.train is not None
    assert found.no_user.value == pytest.approx(0.5, abs=0.06)
    assert found.train.low > 0.6
    (warning,) = found.warnings()
    assert "in split train" in warning
    assert found.as_dict()["train"]["differs"]


def test_times_are_a_signal_where_there_are_some() -> None:
    items, examples = make(FRESH, 0)
    timed = [
        msgspec.structs.replace(each, timestamp=1000 + number)
        for number, each in enumerate(examples)
    ]
    found = audit_examples(items, timed)
    assert found is not None
    assert {"first seen", "age when asked"} <= set(found.signals)
    assert not {"first seen", "age when asked"} & set(audited(FRESH).signals)


def test_too_few_questions_are_not_audited() -> None:
    items, examples = make(replace(CLEAN, train=30, valid=0, test=9), 0)
    assert audit_examples(items, examples) is None


def test_without_items_what_needs_texts_is_left_out() -> None:
    _, examples = make(FRESH, 0)
    found = audit_examples({}, examples)
    assert found is not None
    assert found.no_user.low > 0.9
    assert "text length" not in found.signals


def test_questions_that_cannot_be_lost_are_left_out() -> None:
    items, examples = make(CLEAN, 0)
    odd = [
        msgspec.structs.replace(examples[-1], example_id="all", candidates=examples[-1].positives),
        msgspec.structs.replace(examples[-1], example_id="none", positives=[]),
        msgspec.structs.replace(examples[-1], example_id="later", split="predict", positives=[]),
    ]
    found = audit_examples(items, [*examples, *odd])
    assert found is not None
    assert not {"all", "none", "later"} & set(found.examples)


def test_the_result_has_the_fields_of_the_contract() -> None:
    content = audited(CLEAN, without_text=True).as_dict()
    assert set(content["no_user"]["auc"]) == set(content["no_text"]["auc"]) == {
        "value", "low", "high"
    }  # fmt: skip
    assert list(content["signals"].values()) == sorted(content["signals"].values(), reverse=True)
    assert (content["split"], content["questions"], content["level"]) == ("test", 120, LEVEL)


def _vectors(items: list[str], direction: dict[str, float], seed: int = 0) -> Known:
    """Give every item a vector of noise, of which one direction tells what is right."""
    draws = np.random.default_rng(seed)
    noise = draws.normal(size=(len(items), 40)).astype(np.float32)
    axis = draws.normal(size=40)
    axis /= np.linalg.norm(axis)
    told = [direction.get(item, 0.0) for item in items]
    made = noise + 3 * np.outer(told, axis).astype(np.float32)
    return Known(vectors=dict(zip(items, made, strict=True)))


THIRD = World(right=lambda random, _: int(random.integers(50)) * 3)
"""Every third item may be right; neither texts nor counts of a few users tell much of it."""


def test_what_vectors_of_the_texts_tell_is_found_and_named() -> None:
    items, examples = make(replace(THIRD, items=1500, right=_every_third), 3)
    told = {item: float(index % 3 == 0) for index, item in enumerate(items)}
    without = audit_examples(items, examples)
    found = audit_examples(items, examples, known=_vectors(list(items), told))
    assert without is not None
    assert found is not None
    assert next(iter(found.signals)) == EMBEDDING
    assert found.signals[EMBEDDING] > 0.8
    assert found.no_user.low > without.no_user.value + 0.1


def _every_third(random: np.random.Generator, world: World) -> int:
    return int(random.integers(world.items // 3)) * 3


def test_a_language_model_that_knows_the_answer_without_the_user_is_found_and_named() -> None:
    items, examples = make(replace(THIRD, items=1500, right=_every_third), 3)
    draws = np.random.default_rng(0)
    scores = {i: float(n % 3 == 0) + draws.normal(scale=0.4) for n, i in enumerate(items)}
    found = audit_examples(items, examples, known=Known(scores={"hier-no-user": scores}))
    assert found is not None
    name, area = next(iter(found.signals.items()))
    assert name == "language model (hier-no-user)"
    assert area > 0.75, "a third of the wrong ones look right, too"
    assert found.is_alarming


def test_vectors_and_scores_that_tell_nothing_leave_the_audit_at_chance() -> None:
    found = []
    for seed in range(8):
        items, examples = make(CLEAN, seed)
        draws = np.random.default_rng(seed)
        known = Known(
            _vectors(list(items), {}, seed).vectors,
            {"hier-no-user": {item: draws.normal() for item in list(items)[::2]}},
        )
        audit = audit_examples(items, examples, known=known)
        assert audit is not None
        found.append(audit)
    assert sum(not each.no_user.low <= 0.5 <= each.no_user.high for each in found) <= 2
    assert np.mean([each.signals[EMBEDDING] for each in found]) == pytest.approx(0.5, abs=0.03)
    assert not any(each.is_alarming for each in found)


def test_items_without_vectors_and_a_single_vector_are_no_obstacle() -> None:
    items, examples = make(CLEAN, 1)
    some = dict(list(_vectors(list(items), {}).vectors.items())[:1])
    assert audit_examples(items, examples, known=Known(vectors=some)) is not None
