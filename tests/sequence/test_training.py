"""Training: what it learns, that it can be repeated, and that it continues."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings, models_of
from trec_cli.sequence.training import (
    Checkpoint,
    Sample,
    batch_loss,
    rate,
    score_all,
    step_size,
    train,
    within_budget,
)

SETTINGS = SequenceSettings(
    width=16, layers=1, max_history=6, epochs=6, step_targets=64, dropout=0.1, learning_rate=0.01
)


def texts(count: int = 12, size: int = 16) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(5))


def chains(count: int = 48) -> list[list[int]]:
    """Histories in which item n is always followed by item n + 1, round in a ring."""
    return [[(start + step) % 12 for step in range(5)] for start in range(count)]


def scores(model: SequenceModel, *histories: list[int]) -> np.ndarray:
    return np.concatenate(list(score_all(model, texts(), histories)))


def test_it_learns_what_follows_what() -> None:
    model = train(texts(), chains(), replace(SETTINGS, epochs=40), seed=0)
    ring = [[(n - 1) % 12, n] for n in range(12)]
    assert scores(model, *ring).argmax(axis=1).tolist() == [(n + 1) % 12 for n in range(12)]


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first, again = train(texts(), chains(), SETTINGS, 1), train(texts(), chains(), SETTINGS, 1)
    other = train(texts(), chains(), SETTINGS, 2)
    assert (scores(first, [1, 2]) == scores(again, [1, 2])).all()
    assert (scores(first, [1, 2]) != scores(other, [1, 2])).any()


class KilledError(Exception):
    """Stands for the process's end."""


def test_a_killed_training_continues_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = train(texts(), chains(), SETTINGS, 0)
    epochs: list[int] = []

    def kill(epoch: int, _loss: float, _model: SequenceModel) -> None:
        if epoch == 2:
            raise KilledError

    kept = Checkpoint(tmp_path / "state", "key")
    with pytest.raises(KilledError):
        train(texts(), chains(), SETTINGS, 0, checkpoint=kept, after_epoch=kill)
    rest = train(
        texts(), chains(), SETTINGS, 0, checkpoint=kept,
        after_epoch=lambda epoch, *_: epochs.append(epoch),
    )  # fmt: skip
    assert epochs == [3, 4, 5]
    assert (scores(rest, [3]) == scores(whole, [3])).all()


def test_the_state_of_another_training_is_not_taken(tmp_path: Path) -> None:
    train(texts(), chains(), SETTINGS, 0, checkpoint=Checkpoint(tmp_path / "state", "one"))
    epochs: list[int] = []
    train(
        texts(), chains(), SETTINGS, 0, checkpoint=Checkpoint(tmp_path / "state", "two"),
        after_epoch=lambda epoch, *_: epochs.append(epoch),
    )  # fmt: skip
    assert epochs == list(range(6))


def test_scores_are_log_probabilities_and_do_not_depend_on_who_shares_the_block() -> None:
    model = train(texts(), chains(), SETTINGS, 0)
    together = scores(model, [1], [2, 3, 4], [5, 6])
    assert np.exp(together).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert together[1] == pytest.approx(scores(model, [2, 3, 4])[0], abs=1e-5)


def test_without_history_all_items_tie() -> None:
    model = train(texts(), chains(), SETTINGS, 0)
    found = scores(model, [], [1])
    assert len(set(found[0].tolist())) == 1
    assert len(set(found[1].tolist())) > 1


def test_only_the_newest_items_are_read() -> None:
    model = train(texts(), chains(), SETTINGS, 0)
    long = [7, 8, 9, *range(6)]
    assert (scores(model, long) == scores(model, long[-6:])).all()


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [rate(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[-1] < 0.001


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(300)])
def test_a_damaged_state_is_no_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").write_bytes(content)
    assert Checkpoint(tmp_path / "state", "key").load() == 0


def few(items: int = 12, count: int = 4) -> Sample:
    return Sample(chains(), items, replace(SETTINGS, negatives=count))


def test_a_sample_holds_the_targets_and_says_how_likely_each_item_is_in_it() -> None:
    # item 0 is the target of half of all steps, items 1 and 2 of a quarter; 3 and 4 never
    sample = Sample([[3, 0, 1], [3, 0, 2]], 5, replace(SETTINGS, negatives=2))
    rows, chances = sample.draw(torch.tensor([0, 2]))
    assert {0, 2} <= set(rows.tolist())
    assert rows.tolist() == sorted(set(rows.tolist()))
    never, quarter, half = (1 - 0.8**2 * share**2 for share in (1, 3 / 4, 1 / 2))
    wanted = dict(enumerate([half, quarter, quarter, never, never]))
    np.testing.assert_allclose(chances.exp(), [wanted[n] for n in rows.tolist()], rtol=1e-5)


def test_the_sum_over_a_sample_estimates_that_over_the_whole_catalogue() -> None:
    sample, draws = few(), torch.Generator().manual_seed(3)
    logits = torch.randn(12, generator=draws)
    torch.manual_seed(0)
    found = []
    for _ in range(4000):
        targets = torch.randint(12, (6,), generator=draws)  # as often as in the ring
        rows, chances = sample.draw(targets)
        found.append(float((logits[rows] - chances).exp().sum()))
    assert np.mean(found) == pytest.approx(float(logits.exp().sum()), rel=0.02)


def test_where_everything_is_drawn_the_loss_is_that_of_the_whole_catalogue() -> None:
    calm = replace(SETTINGS, dropout=0.0, item_dropout=0.0, ids=True, negatives=4000)
    torch.manual_seed(0)
    model = SequenceModel(16, 12, calm)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    batch = [*chains(5), [3, 9]]
    sampled = Sample(chains(), 12, calm).loss(model, texts(), batch)
    assert sampled.item() == pytest.approx(batch_loss(model, texts(), batch).item(), rel=1e-5)


def test_a_large_catalogue_is_learnt_from_samples() -> None:
    sampled = replace(SETTINGS, epochs=40, negatives=2)
    assert sampled.draws(12)
    model = train(texts(), chains(), sampled, seed=0)
    ring = [[(n - 1) % 12, n] for n in range(12)]
    assert scores(model, *ring).argmax(axis=1).tolist() == [(n + 1) % 12 for n in range(12)]


def test_samples_matter_to_what_is_recorded_only_where_they_are_drawn() -> None:
    whole = 4 * SETTINGS.negatives
    assert "negatives" not in SETTINGS.recorded(whole)
    assert SETTINGS.recorded(whole + 1)["negatives"] == SETTINGS.negatives


def test_many_targets_are_learnt_in_fewer_passes_and_then_from_fewer_histories() -> None:
    chosen = chains(48)  # 4 targets each, 192 a pass
    assert within_budget([[7], *chosen], SETTINGS, 0) == (chosen, 6)
    assert within_budget(chosen, replace(SETTINGS, most_targets=700), 0) == (chosen, 3)
    assert within_budget(chosen, replace(SETTINGS, most_targets=192), 0) == (chosen, 1)
    few, passes = within_budget(chosen, replace(SETTINGS, most_targets=43), 0)
    assert (len(few), passes) == (10, 1)
    assert few != within_budget(chosen, replace(SETTINGS, most_targets=43), 1)[0]
    one, _ = within_budget(chosen, replace(SETTINGS, most_targets=1), 0)
    assert len(one) == 1
    long = [list(range(12))]  # of which the newest seven are read: six targets
    assert within_budget(long, replace(SETTINGS, most_targets=12), 0) == ([list(range(5, 12))], 2)


def test_without_histories_a_model_is_left_as_it_starts() -> None:
    ends: list[float] = []
    model = train(texts(), [[3]], SETTINGS, 0, after_epoch=lambda _, loss, __: ends.append(loss))
    assert np.isfinite(scores(model, [1, 2])).all()
    assert np.isnan(ends).all()


def test_scores_come_in_small_blocks_where_the_catalogue_is_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = train(texts(), chains(), SETTINGS, seed=0)
    asked = [[1, 2], [], [4], [5, 6, 7]]
    together = scores(model, *asked)
    monkeypatch.setattr("trec_cli.sequence.training._MOST_SCORES", 25)
    blocks = list(score_all(model, texts(), asked))
    assert [len(block) for block in blocks] == [2, 2]
    np.testing.assert_allclose(np.concatenate(blocks), together, atol=1e-5)


def test_a_step_has_as_many_targets_whatever_the_length_of_histories() -> None:
    assert step_size(chains(48), SETTINGS) == 16  # 64 targets a step, 4 a history
    assert step_size([[0, 1], [0, 1]], SETTINGS) == 64
    assert step_size([list(range(500))], SETTINGS) == 1
    assert step_size([], SETTINGS) == 1


def test_the_blend_has_sequence_models_where_a_text_encoder_is_named_and_a_training_is_short() -> (
    None
):
    assert models_of(None, embedded=True, items=100_000) == 3
    assert models_of(None, embedded=True, items=100_001) == 0
    assert models_of(None, embedded=False, items=9) == 0
    assert models_of(2, embedded=False, items=10**6) == 2
    assert models_of(0, embedded=True, items=9) == 0
