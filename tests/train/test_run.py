"""Whole trainings of a tiny model, in this process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.world import CPU, builder, language_model, questions
from trec_cli.core.errors import ModelError, UsageError
from trec_cli.train.callbacks import read_log
from trec_cli.train.prepared import prepare
from trec_cli.train.run import Outcome, train, use_one_device
from trec_cli.train.settings import LoraSettings, LossName, TrainSettings
from trec_cli.train.work import WorkFolder

QUICK = TrainSettings(epochs=1, users_per_step=8, lora=LoraSettings(dropout=0.0))


def run(
    folder: Path,
    settings: TrainSettings,
    users: int = 16,
    valid: int = 0,
    family: str = "llama",
    **overrides: float,
) -> tuple[dict[str, torch.Tensor], Outcome, list[dict[str, Any]]]:
    """Train; give the adapter's weights, the outcome and the log."""
    prepared = prepare(questions(users), questions(valid, "valid"), builder(), settings, CPU.device)
    work = WorkFolder(folder / "model-none")
    work.open({})
    model, outcome = train(language_model(family, **overrides), prepared, work, save_every=1000)
    weights = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    return weights, outcome, read_log(work.log)


def test_it_does_not_matter_how_a_step_is_spread_over_rows(tmp_path: Path) -> None:
    one, _, log_one = run(tmp_path / "a", QUICK)
    many, _, log_many = run(tmp_path / "b", replace(QUICK, max_tokens=70))
    for name, weight in one.items():
        torch.testing.assert_close(many[name], weight, rtol=1e-4, atol=1e-6)
    for first, second in zip(log_one, log_many, strict=True):
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)


def test_the_logged_loss_is_the_mean_over_the_answers_of_a_step(tmp_path: Path) -> None:
    """A fresh adapter changes nothing, so the first loss is the base model's."""
    settings = replace(QUICK, users_per_step=20, negatives_per_positive=3)
    _, outcome, log = run(tmp_path, settings, users=5)
    prepared = prepare(questions(5), [], builder(), settings, CPU.device)
    model, answers = language_model().model, builder().answers
    losses = []
    for draw in next(iter(prepared.plan)):
        labelled = prepared.data[draw]
        for branch, label in zip(labelled.branches, labelled.labels, strict=True):
            with torch.no_grad():
                logits = model(torch.tensor([[*labelled.prefix, *branch]])).logits[0, -1]
            losses.append(-logits.log_softmax(-1)[answers.yes if label else answers.no].item())
    assert len(losses) == outcome.spent.prompts == 5 * 4
    assert log[0]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_prompt_loss_is_the_mean_over_predicted_tokens(tmp_path: Path) -> None:
    """Near log 512 for a random model, whatever the number of negatives."""
    for negatives in (1, 4):
        settings = replace(QUICK, loss="prompt", negatives_per_positive=negatives)
        _, _, log = run(tmp_path / str(negatives), settings)
        assert log[0]["loss"] == pytest.approx(6.238, abs=0.3)


@pytest.mark.parametrize("family", ["gpt_neox", "gemma3_text"])
def test_other_families_train_too(tmp_path: Path, family: str) -> None:
    weights, outcome, _ = run(tmp_path, QUICK, users=8, valid=3, family=family)
    assert outcome.best is not None
    assert any(w.abs().max() > 0 for name, w in weights.items() if "lora_B" in name)


def test_a_model_learns_what_can_be_learnt(tmp_path: Path) -> None:
    """Positives hold a word that negatives do not; chance would be recall@1 of 1/6.

    The tiny models' usual weights are too small for any answer to become likely.
    """
    settings = replace(
        QUICK, epochs=6, learning_rate=0.02, eval_every=6, lora=LoraSettings(rank=8, dropout=0.0)
    )
    _, outcome, log = run(tmp_path, settings, users=48, valid=24, initializer_range=0.3)
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < 0.1 * losses[0]
    assert outcome.best is not None
    assert outcome.best["recall@1"] > 0.9
    assert outcome.best["loss"] < 0.1


def test_epochs_and_steps_stand_in_the_log(tmp_path: Path) -> None:
    _, outcome, log = run(tmp_path, replace(QUICK, epochs=2), users=12, valid=2)
    steps = [(line["step"], line["epoch"]) for line in log if "loss" in line]
    assert steps == [(1, pytest.approx(2 / 3)), (2, pytest.approx(4 / 3)), (3, 2.0)]
    assert outcome.steps == 3
    assert [line["step"] for line in log if "valid_loss" in line] == [2, 3]


def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    plain, _, _ = run(tmp_path / "a", QUICK, users=8)
    spared, _, _ = run(tmp_path / "b", replace(QUICK, gradient_checkpointing=True), users=8)
    for name, weight in plain.items():
        torch.testing.assert_close(spared[name], weight, rtol=1e-5, atol=1e-7)


def test_a_model_that_cannot_share_a_prefix_trains_prompt_by_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, _, _ = run(tmp_path / "a", QUICK, users=8, valid=2)
    monkeypatch.setattr(
        "trec_cli.models.log_odds.packed_log_odds", lambda *_: torch.full((4,), torch.nan)
    )
    separate, outcome, _ = run(tmp_path / "b", QUICK, users=8, valid=2)
    assert outcome.spent.tokens == outcome.spent.separate_tokens
    for name, weight in packed.items():
        torch.testing.assert_close(separate[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["answer", "listwise"])
def test_all_targets_of_a_history_train_packed_as_prompt_by_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: LossName
) -> None:
    settings = replace(QUICK, targets="all", loss=loss, negatives_per_positive=2)
    packed, outcome, log = run(tmp_path / "a", settings, users=8, valid=2)
    # users 0 to 7 have 0, 1, 2, 3, 0, … items of history, the first of which is not asked for
    assert outcome.spent.targets == 8 + 2 * (0 + 0 + 1 + 2)
    assert outcome.spent.prompts == 3 * outcome.spent.targets
    assert outcome.spent.tokens < outcome.spent.separate_tokens
    monkeypatch.setattr(
        "trec_cli.models.log_odds.packed_log_odds", lambda *_: torch.full((4,), torch.nan)
    )
    separate, slow, slow_log = run(tmp_path / "b", settings, users=8, valid=2)
    assert slow.spent.tokens == slow.spent.separate_tokens
    assert log[0]["loss"] == pytest.approx(slow_log[0]["loss"], rel=1e-5)
    for name, weight in packed.items():
        torch.testing.assert_close(separate[name], weight, rtol=1e-4, atol=1e-6)


def test_the_listwise_loss_learns_what_can_be_learnt(tmp_path: Path) -> None:
    settings = replace(
        QUICK,
        loss="listwise",
        targets="all",
        negatives_per_positive=3,
        epochs=4,
        learning_rate=0.02,
        eval_every=6,
        lora=LoraSettings(rank=8, dropout=0.0),
    )
    _, outcome, log = run(tmp_path, settings, users=48, valid=24, initializer_range=0.3)
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < 0.3 * losses[0]
    assert outcome.best is not None
    assert outcome.best["recall@1"] > 0.9


def test_more_processes_than_examples_are_refused() -> None:
    with pytest.raises(UsageError, match="2 examples are too few for 8 processes"):
        prepare(
            questions(2), [], builder(), replace(QUICK, users_per_step=8, processes=8), CPU.device
        )


def test_a_training_of_few_steps_says_what_few_users_need() -> None:
    def said(users: int, settings: TrainSettings) -> str:
        valid = questions(2, "valid")
        prepared = prepare(questions(users), valid, builder(), settings, CPU.device)
        return " ".join(prepared.warnings())

    one_user = replace(QUICK, users_per_step=1, epochs=25)
    one_by_one = said(9, replace(QUICK, users_per_step=1, epochs=11))
    assert "only 99 optimizer steps" in one_by_one
    assert one_by_one.endswith("take more --epochs"), "it steps once a user already"
    assert "take --users-per-step 1 --learning-rate 1e-3" in said(16, QUICK)
    assert "optimizer steps" not in said(4, one_user)


class Several:
    """Arguments of a Trainer that sees several GPUs."""

    _n_gpu = 4

    @property
    def n_gpu(self) -> int:
        return self._n_gpu


class Stubborn(Several):
    """The same, of a version that counts them itself."""

    @property
    def n_gpu(self) -> int:
        return 4


def test_one_process_takes_one_of_several_gpus() -> None:
    arguments = Several()
    use_one_device(arguments)
    assert arguments.n_gpu == 1
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES=0"):
        use_one_device(Stubborn())


def test_where_memory_is_too_short_a_training_says_what_to_lower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("trec_cli.train.trainer.PackedTrainer.compute_loss", full)
    with pytest.raises(ModelError, match=r"not enough memory for this training.*--max-tokens"):
        run(tmp_path, QUICK)
