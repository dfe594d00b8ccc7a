"""The blend: no answer is in its own counts, order plays no role, weights are read back."""

from pathlib import Path

import numpy as np
import pytest

from tests.signals.small import ITEMS, ROWS, example
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Example
from trec_cli.core.seeds import fold_of
from trec_cli.signals.blend import (
    Blend,
    Learner,
    drawn_candidates,
    feature_names,
    fit_blend,
    history_size,
    load_logit,
    save_logit,
    varying_of,
)
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories


def _examples() -> list[Example]:
    """Pots are followed by saws: a, b by c, d; a few go the other way."""
    steps = [("a", "c"), ("b", "d"), ("ab", "c"), ("c", "a")]
    train = [example(f"t{n}", "train", *steps[n % 4], n=n) for n in range(40)]
    valid = [example(f"v{n}", "valid", *steps[n % 3], n=n) for n in range(12)]
    return [*train, *valid]


def _blend(examples: list[Example], negatives: int | None = None) -> Blend:
    catalogue = EncodedCatalogue.of(ITEMS)
    learner = Learner(catalogue, Events.of(examples, catalogue.rows))
    return fit_blend(learner, examples, negatives=negatives)


def test_what_followed_before_is_ranked_first() -> None:
    scores = _blend(_examples()).score([example("x", "test", "b")])[0]
    assert "abcd"[int(np.argmax(scores))] == "d"


def test_the_order_of_the_file_changes_nothing() -> None:
    examples = _examples()
    asked = [example("x", "test", "ab"), example("y", "test", "")]
    one, other = _blend(examples).score(asked), _blend(examples[::-1]).score(asked)
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_a_train_users_own_answer_is_in_no_count() -> None:
    lonely = example("lonely", "train", "c", right="d")
    examples = [*_examples(), lonely]
    blend = _blend(examples)
    fold = fold_of("lonely")  # whose answers are drawn from
    others = [e for e in examples if e.split != "train" or fold_of(e.user_id) != fold]
    learner = Learner(blend.learner.catalogue, Events.of(others, ROWS))
    asked = example("stranger", "test", "c")
    assert blend.score([lonely]) == Blend(learner, blend.logit).score([asked])
    assert blend.score([lonely]) != blend.score([asked])


def test_all_items_get_the_score_that_candidates_get_up_to_a_constant() -> None:
    blend = _blend(_examples())
    histories = ["ab", "", "cc"]
    asked = [example("x", "test", history, n=n) for n, history in enumerate(histories)]
    whole = blend.everywhere(Histories.of(map(list, histories), ROWS))
    whole = whole[:, [ROWS[item] for item in "abcd"]]
    chosen = np.array(blend.score(asked))
    np.testing.assert_allclose(whole - whole[:, :1], chosen - chosen[:, :1], atol=5e-4, rtol=1e-3)


def test_wrong_answers_are_drawn_from_the_catalogue_whatever_its_order() -> None:
    backwards = dict(reversed(list(ITEMS.items())))
    asked = example("u", "train", "a", right="b")
    one, other = (list(EncodedCatalogue.of(items).rows) for items in (ITEMS, backwards))
    assert one == other
    drawn = drawn_candidates(asked, one, 2, seed=0)
    assert drawn[0] == "b"
    assert len(set(drawn)) == 3
    assert sorted(drawn_candidates(asked, one, 50, seed=0)) == list("abcd")


def test_it_can_learn_from_drawn_answers_where_questions_bring_no_candidates() -> None:
    bare = [
        example(e.user_id, e.split, "".join(e.history), "".join(e.positives), "", n)
        for n, e in enumerate(_examples())
    ]
    scores = _blend(bare, negatives=3).score([example("x", "test", "b")])[0]
    assert "abcd"[int(np.argmax(scores))] == "d"


def test_without_a_question_to_learn_from_it_says_so() -> None:
    with pytest.raises(UsageError, match="the blend learns its weights from questions"):
        _blend([example("x", "test", "a", right="b")])


def test_weights_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    blend, path = _blend(_examples()), tmp_path / "blend.json"
    save_logit(path, blend.logit, {"seed": 0})
    assert '"says": "1 where the history holds it"' in path.read_text()
    again = Blend(blend.learner, load_logit(path))
    asked = [example("x", "test", "ab")]
    assert again.score(asked) == blend.score(asked)


def test_a_broken_file_of_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "blend.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="is no saved blend"):
        load_logit(path)


def test_the_weight_of_a_signal_may_depend_on_the_length_of_the_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = history_size(Histories.of([[], list("abcda"), list("a" * 60), list("a" * 90)], ROWS))
    assert sizes.tolist() == pytest.approx([-np.log(6), 0, np.log(51 / 6), np.log(51 / 6)])
    monkeypatch.setattr("trec_cli.signals.blend.MANY_QUESTIONS", 10)
    blend = _blend(_examples())
    signals = blend.learner.signals()
    assert blend.varying == varying_of(signals)
    assert {"next", "popularity"} < set(blend.varying)
    assert blend.logit.names == tuple(feature_names(signals, blend.varying))
    asked = [example("x", "test", history, n=n) for n, history in enumerate(["ab", "", "c"])]
    whole = blend.everywhere(Histories.of((e.history for e in asked), ROWS))
    whole = whole[:, [ROWS[item] for item in "abcd"]]
    chosen = np.array(blend.score(asked))
    np.testing.assert_allclose(whole - whole[:, :1], chosen - chosen[:, :1], atol=5e-4, rtol=1e-3)


def test_few_questions_get_one_weight_per_signal() -> None:
    blend = _blend(_examples())
    assert blend.varying == ()
    assert blend.logit.names == tuple(blend.learner.signals())
