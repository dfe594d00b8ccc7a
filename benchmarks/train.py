"""Training on a user's positive and negatives: ours against TRL's SFTTrainer.

    python -m benchmarks.train --data DATA --model MODEL --trl PYTHON

Both train the same LoRA (rank 8 on the attention projections, dropout 0.05) in float32 on
the same prompts of about 950 tokens, with the loss on the answer alone.  TRL runs in an
environment of its own, with the best of several batch sizes.
"""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Peer, Prompts, compare, in_turns, parser, peer, real_prompts
from trec_cli.models.load import load_model
from trec_cli.models.source import ModelSource
from trec_cli.train.dataset import Draw, Prepared, prepare
from trec_cli.train.lora import pick_targets
from trec_cli.train.run import train
from trec_cli.train.settings import TrainSettings
from trec_cli.train.work import WorkFolder

PREFIX = 920
USERS_PER_STEP = 2
TARGETS = {1: 3.5, 4: 7.0}
BATCH_SIZES = (1, 2)
"""Larger ones are slower still on a CPU: padding, and nothing to win."""


def plan(prompts: Prompts, negatives: int) -> Prepared:
    """Plan one epoch over the users."""
    settings = TrainSettings(
        negatives_per_positive=negatives,
        epochs=1,
        users_per_step=USERS_PER_STEP,
        valid_users=0,
        warmup=0.0,
    )
    return prepare(prompts.questions, [], prompts.builder, settings, torch.device("cpu"))


def ours(model: str, prepared: Prepared, _: int) -> float:
    """Train a fresh adapter as ``trec train`` does; give the seconds of the training."""
    llm = load_model(ModelSource(model, dtype="float32"))
    with tempfile.TemporaryDirectory() as folder:
        work = WorkFolder(Path(folder) / "model")
        work.open({})
        return train(llm, prepared, work, save_every=10_000)[1].spent.seconds


def written_out(prompts: Prompts, prepared: Prepared) -> list[dict[str, Any]]:
    """Return the same prompts and answers one by one, as TRL reads them."""
    answers = prompts.builder.answers
    trees = [prepared.data[Draw(0, place)] for place in range(len(prepared.data))]
    return [
        {
            "prompt": [*tree.prefix, *branch],
            "answer": answers.yes if label else answers.no,
        }
        for tree in trees
        for branch, label in zip(tree.branches, tree.labels, strict=True)
    ]


def trl(engine: Peer, examples: Sequence[dict[str, Any]], batch_size: int, _: int) -> float:
    """Train a fresh adapter with TRL; give the seconds of ``trainer.train()``."""
    asked = {"examples": examples, "batch_size": batch_size, "step": 2 * USERS_PER_STEP}
    return float(engine.ask(asked)["seconds"])


def main() -> None:
    """Compare for 1 and for 4 negatives per positive."""
    options = parser(__doc__ or "")
    options.add_argument("--trl", required=True, help="Python of an environment with TRL")
    options.add_argument("--users", type=int, default=4)
    given = options.parse_args()
    prompts = real_prompts("mind", given.data, given.model, prefix=PREFIX, users=given.users)
    targets = pick_targets(load_model(ModelSource(given.model)).model)
    with peer(given.trl, "trl_train.py", given.model, ",".join(targets)) as engine:
        few = written_out(prompts, plan(prompts, 1))[:2]
        trl(engine, few, 1, 0)  # the first training is slower, and not the batch size's fault
        tried = {
            size: min(trl(engine, few, size, 0), trl(engine, few, size, 0)) for size in BATCH_SIZES
        }
        best = min(tried, key=lambda size: tried[size])
        print(f"TRL, seconds for 2 prompts by batch size: {tried}", flush=True)
        for negatives, target in TARGETS.items():
            prepared = plan(prompts, negatives)
            examples = written_out(prompts, prepared)
            ways = {
                "ours": functools.partial(ours, given.model, prepared),
                "TRL": functools.partial(trl, engine, examples, best),
            }
            seconds = in_turns(ways, given.rounds, warm_up=False)
            rates = {side: [len(examples) / s for s in took] for side, took in seconds.items()}
            compare(
                f"train_trl_{negatives}_negatives",
                rates,
                peer="TRL",
                unit="prompts/s",
                what=f"training, MIND, {negatives} negatives a positive: TRL's SFTTrainer",
                target=target,
                more_is_better=True,
                more={
                    "prompts": len(examples),
                    "prompt_tokens": sum(len(e["prompt"]) for e in examples) / len(examples),
                    "trl_batch_size": best,
                    "trl_seconds_for_2_prompts_by_batch_size": tried,
                },
            )


if __name__ == "__main__":
    main()
