"""The sequence model: what it starts as, what it sees, and what it does not."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trec_cli.core.errors import UsageError
from trec_cli.sequence.model import PADDING, SequenceModel
from trec_cli.sequence.settings import SequenceSettings

SETTINGS = SequenceSettings(width=8, layers=2, max_history=10)


def model(settings: SequenceSettings = SETTINGS, *, shaken: bool = True) -> SequenceModel:
    """Make a model; shaken, its blocks and learnt vectors do something."""
    torch.manual_seed(0)
    made = SequenceModel(12, 20, settings).eval()
    if shaken:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def texts(count: int = 20) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(3))


def users(made: SequenceModel, *histories: list[int]) -> Tensor:
    vectors, _ = made.items(texts())
    with torch.no_grad():
        return made.users(vectors, torch.tensor(histories))


def test_untrained_it_ranks_by_the_texts_similarity_to_the_newest_item() -> None:
    made = model(SequenceSettings(width=12, layers=2, max_history=10), shaken=False)
    vectors, bias = made.items(texts())
    logits = made.logits(users(made, [4, 9])[0, -1], vectors, bias)
    centred = texts()[9] - texts()[9].mean()  # by the layer norm
    expected = functional.cosine_similarity(centred, texts(), dim=1) / 0.07
    assert torch.allclose(logits, expected, atol=1e-3)


def test_a_later_item_changes_nothing_before_it() -> None:
    made = model()
    first, second = users(made, [1, 2, 3]), users(made, [1, 2, 7])
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2], second[:, 2])


def test_padding_in_front_changes_nothing() -> None:
    made = model()
    padded = users(made, [PADDING, PADDING, 5, 6])
    assert torch.allclose(padded[:, 2:], users(made, [5, 6]), atol=1e-6)


def test_order_matters() -> None:
    made = model()
    assert not torch.allclose(users(made, [1, 2, 3])[0, -1], users(made, [2, 1, 3])[0, -1])


def test_what_is_left_out_is_seen_by_itself_alone() -> None:
    made = model()
    vectors, _ = made.items(texts())
    history = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        hidden = made.users(vectors, history, torch.tensor([[True, False, False]]))
    assert torch.allclose(hidden[0, 0], users(made, [1])[0, 0], atol=1e-6)
    assert torch.allclose(hidden[0, 1:], users(made, [2, 3])[0], atol=1e-6)


def test_an_item_that_came_later_has_a_vector_by_its_text_alone() -> None:
    made = model(SequenceSettings(width=8, layers=1, max_history=10, ids=True))
    newer = torch.cat([texts(), texts()[:1]])
    vectors, _ = made.items(newer)
    assert torch.allclose(vectors[20], made.project(newer[20]), atol=1e-6)
    assert not torch.allclose(vectors[0], vectors[20])


def test_the_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="--width 9 is no multiple of 2"):
        SequenceSettings(width=9)
