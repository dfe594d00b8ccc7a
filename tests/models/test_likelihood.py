"""How likely a text is: every way of computing it gives what separate prompts give."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samples.tiny_model import FAMILIES
from tests.models.test_log_odds import PATH, TREES, Plain, loud, tree
from trec_cli.models.likelihood import TextScorer
from trec_cli.models.packing import branch_predictions, pack
from trec_cli.models.tree_attention import use_tree_attention


def by_hand(model: torch.nn.Module, prefix: list[int], branch: list[int]) -> float:
    """Sum log p token by token, each from a prompt of its own."""
    total = 0.0
    for count, token in enumerate(branch):
        ids = torch.tensor([[*prefix, *branch[:count]]])
        total += float(model(input_ids=ids).logits[0, -1].log_softmax(-1)[token])
    return total


@torch.inference_mode()
def test_a_score_is_the_sum_of_the_tokens_log_probabilities() -> None:
    model, one = loud("llama"), tree(12, [3, 1, 5])
    expected = [by_hand(model, one.prefix, branch) for branch in one.branches]
    assert TextScorer(model, 500)([one])[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("by_trees", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_every_way_gives_the_same(family: str, by_trees: bool) -> None:
    model = loud(family, num_hidden_layers=6) if family == "gemma3_text" else loud(family)
    plain = torch.cat([TextScorer(model, 110).plain(each) for each in [*TREES, PATH]])
    if by_trees:
        use_tree_attention(model)
    scorer = TextScorer(model, 110)
    with scorer.ways() as ways:
        packed = ways.packed([*TREES, PATH])
        assert (packed - plain).abs().max() < 1e-3
        whole = torch.cat([ways.cached(each) for each in [*TREES, PATH]])
    assert (whole - plain).abs().max() < 1e-3


def test_the_check_finds_nothing_wrong_with_a_usual_model() -> None:
    scorer = TextScorer(loud("llama"), 110)
    scorer.check([*TREES, PATH])
    assert not scorer.fallback


def test_equal_texts_tie_exactly() -> None:
    twice = Plain([5, 6, 7], [[8, 9], [10], [8, 9]])
    [scores] = TextScorer(loud("llama"), 500)([twice])
    assert scores[0] == scores[2]


def test_chunks_of_single_tokens_need_the_prefix_alone() -> None:
    model, short = loud("llama"), tree(30, [1, 1, 1])
    with torch.inference_mode():
        expected = TextScorer(model, 500).plain(short)
    # 31 tokens: a row has no room for the tree, so that it goes over the cache.
    assert TextScorer(model, 31)([short])[0] == pytest.approx(expected.tolist(), abs=1e-4)


@settings(max_examples=50)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 6), st.lists(st.integers(1, 4), min_size=1, max_size=4)),
        min_size=1,
        max_size=3,
    )
)
def test_predictions_stand_where_the_packed_row_has_the_tokens_before(
    shapes: list[tuple[int, list[int]]],
) -> None:
    trees = [tree(prefix, branches, seed) for seed, (prefix, branches) in enumerate(shapes)]
    row, number = pack(trees), 0
    found = list(branch_predictions(trees))
    ids = row.input_ids[0].tolist()
    for each in trees:
        for branch in each.branches:
            places = [place for place, _ in found[number]]
            assert [token for _, token in found[number]] == branch
            assert [ids[place] for place in places] == [each.prefix[-1], *branch[:-1]]
            number += 1
    assert number == len(found)


def test_rounded_texts_may_differ_by_their_length() -> None:
    model = loud("llama")
    asked = tree(5, [2])
    assert TextScorer(model, 4096).tolerance([asked]) == 1e-3
    rounded = TextScorer(model.to(torch.bfloat16), 4096)
    assert rounded.tolerance([asked]) == 1.0
    assert rounded.tolerance([tree(9, [60])]) == pytest.approx(3.0)
