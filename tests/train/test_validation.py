"""Loss and ranking of validation examples."""

import math

import numpy as np
import pytest
import torch

from tests.train.world import builder, language_model, questions
from trec_cli.evaluate.metrics import Pools, rank, reciprocal_rank
from trec_cli.models.log_odds import BranchScorer, plain_log_odds
from trec_cli.train.validation import Validator, expected_loss


def test_the_loss_weighs_negatives_as_training_draws_them() -> None:
    right = np.array([True, False, False, False])
    scores = np.array([1.0, 0.0, 2.0, -1.0])
    yes = math.log(1 + math.exp(-1.0))
    no = [math.log(1 + math.exp(z)) for z in (0.0, 2.0, -1.0)]
    assert expected_loss([scores], [right], 1) == pytest.approx((yes + sum(no) / 3) / 2)
    assert expected_loss([scores], [right], 2) == pytest.approx((yes + sum(no) * 2 / 3) / 3)
    assert expected_loss([scores], [right], 9) == pytest.approx((yes + sum(no)) / 4)


def test_an_example_without_negatives_counts_its_positives() -> None:
    marks = [np.array([True]), np.array([True, True])]
    found = expected_loss([np.zeros(1), np.zeros(2)], marks, 1)
    assert found == pytest.approx(math.log(2))


def test_a_scorer_that_knows_nothing_has_the_loss_of_a_coin() -> None:
    marks = [np.array([True, False, False])] * 3
    assert expected_loss([np.zeros(3)] * 3, marks, 1) == pytest.approx(math.log(2))


@pytest.mark.parametrize("max_tokens", [1, 60, 4096])
def test_validation_ranks_with_the_log_odds_of_single_prompts(max_tokens: int) -> None:
    model, asked = language_model().model, questions(5, "valid")
    scorer = BranchScorer(model, builder().answers, max_tokens)
    found = Validator(asked, builder(), scorer, negatives_per_positive=1)(model)
    places = (builder().answers.yes, builder().answers.no)
    scores, marks = [], []
    for question in asked:
        example = question.example
        tree = builder().tree(example.history, question.summary, example.candidates)
        with torch.no_grad():
            scores.append(plain_log_odds(model, tree, places).numpy())
        marks.append(np.array([c in example.positives for c in example.candidates]))
    ranks = rank(Pools.of(scores, marks))
    assert found["mrr@10"] == pytest.approx(reciprocal_rank(ranks, 10).mean())
    assert found["loss"] == pytest.approx(expected_loss(scores, marks, 1), abs=1e-5)
    assert set(found) == {"loss", "recall@1", "recall@3", "recall@5", "recall@10", "mrr@10"}


def test_validation_leaves_the_model_in_its_mode() -> None:
    model = language_model().model.train()
    scorer = BranchScorer(model, builder().answers, 4096)
    Validator(questions(2, "valid"), builder(), scorer, negatives_per_positive=1)(model)
    assert model.training
