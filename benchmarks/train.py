"""Training, ours against TRL's SFTTrainer, and every item of a history against the last alone.

    python -m benchmarks.train --data DATA --model MODEL --trl PYTHON
    python -m benchmarks.train --data DATA --model MODEL --histories industrial [--trl PYTHON]

Both train the same LoRA (rank 8 on the attention projections, dropout 0.05) in float32 on
the same prompts, with the loss on the answer alone.  TRL runs in an environment of its own,
with the best of several batch sizes.

The first compares prompts a second, on MIND prompts of about 950 tokens.  With
``--histories`` it is targets (right answers learnt) a second, on whole histories of a
collection: ``--targets all`` against ``--targets last`` and, where TRL is at hand, against
TRL on the prompts of all targets written out.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import (
    ATTRIBUTES,
    Peer,
    Prompts,
    compare,
    in_turns,
    parser,
    peer,
    prepared,
    real_prompts,
)
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.models.load import load_model, load_tokenizer
from trec_cli.models.packing import separate_prompts
from trec_cli.models.source import ModelSource
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings
from trec_cli.train.lora import pick_targets
from trec_cli.train.plan import Draw
from trec_cli.train.prepared import PreparedTraining, prepare
from trec_cli.train.run import train
from trec_cli.train.settings import TargetsName, TrainSettings
from trec_cli.train.work import WorkFolder

PREFIX = 920
USERS_PER_STEP = 2
TARGETS = {1: 3.5, 4: 7.0}
"""Times TRL in prompts a second, by negatives per positive."""
ALL_TARGETS_OF_TRL = 15.0
"""Times TRL in targets a second, with trees of all targets."""
BATCH_SIZES = (1, 2)
"""Larger ones are slower still on a CPU: padding, and nothing to win."""


def plan(prompts: Prompts, negatives: int, targets: TargetsName = "last") -> PreparedTraining:
    """Plan one epoch over the users."""
    settings = TrainSettings(
        targets=targets,
        negatives_per_positive=negatives,
        epochs=1,
        users_per_step=USERS_PER_STEP,
        valid_users=0,
        warmup=0.0,
    )
    return prepare(prompts.questions, [], prompts.builder, settings, torch.device("cpu"))


def ours(model: str, planned: PreparedTraining, _: int) -> float:
    """Train a fresh adapter as ``trec train`` does; return the seconds of the training."""
    llm = load_model(ModelSource(model, dtype="float32"))
    with tempfile.TemporaryDirectory() as folder:
        work = WorkFolder(Path(folder) / "model")
        work.open({})
        return train(llm, planned, work, save_every=10_000)[1].spent.seconds


def written_out(prompts: Prompts, planned: PreparedTraining) -> list[dict[str, Any]]:
    """Return the same prompts and answers one by one, as TRL reads them."""
    answers = prompts.builder.answers
    trees = [planned.data[Draw(0, index)] for index in range(len(planned.data))]
    return [
        {"prompt": prompt, "answer": answers.yes if label else answers.no}
        for tree in trees
        for prompt, label in zip(separate_prompts(tree), tree.labels, strict=True)
    ]


def trl(engine: Peer, examples: Sequence[dict[str, Any]], batch_size: int, _: int) -> float:
    """Train a fresh adapter with TRL; return the seconds of ``trainer.train()``."""
    asked = {"examples": examples, "batch_size": batch_size, "step": 2 * USERS_PER_STEP}
    return float(engine.ask(asked)["seconds"])


def best_batch_size(engine: Peer, few: Sequence[dict[str, Any]]) -> tuple[int, dict[int, float]]:
    """Return TRL's best batch size, and the seconds for two prompts with each."""
    trl(engine, few, 1, 0)  # the first training is slower, and not the batch size's fault
    tried = {
        size: min(trl(engine, few, size, 0), trl(engine, few, size, 0)) for size in BATCH_SIZES
    }
    print(f"TRL, seconds for 2 prompts by batch size: {tried}", flush=True)
    return min(tried, key=lambda size: tried[size]), tried


def compare_prompts(given: argparse.Namespace, engine: Peer) -> None:
    """Compare with TRL for 1 and for 4 negatives per positive, on MIND."""
    prompts = real_prompts("mind", given.data, given.model, prefix=PREFIX, users=given.users)
    best, tried = best_batch_size(engine, written_out(prompts, plan(prompts, 1))[:2])
    for negatives, target in TARGETS.items():
        planned = plan(prompts, negatives)
        examples = written_out(prompts, planned)
        ways = {
            "ours": functools.partial(ours, given.model, planned),
            "TRL": functools.partial(trl, engine, examples, best),
        }
        seconds = in_turns(ways, given.rounds, warm_up=False)
        compare(
            f"train_trl_{negatives}_negatives",
            {side: [len(examples) / s for s in took] for side, took in seconds.items()},
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


def histories(collection: str, data: Path, model: str, users: int) -> Prompts:
    """Build the prompts of training users, whose whole history is shown."""
    run, source = prepared(collection, data), ModelSource(model)
    items = read_items(run / "items.jsonl")
    settings = PromptSettings(recent=50, attributes=ATTRIBUTES[collection])
    builder = PromptBuilder(load_tokenizer(source), items, settings)
    examples = [e for e in read_examples(run / "examples.jsonl", items) if e.split == "train"]
    return Prompts(builder, [], [SummarizedExample(e, "") for e in examples[:users]])


def compare_targets(given: argparse.Namespace, engine: Peer | None) -> None:
    """Compare all targets of each history with the last alone, and with TRL on all of them."""
    prompts = histories(given.histories, given.data, given.model, given.users)
    every = plan(prompts, given.negatives, "all")
    last = plan(prompts, given.negatives)
    ways: dict[str, Callable[[int], float]] = {
        "ours": functools.partial(ours, given.model, every),
        "last": functools.partial(ours, given.model, last),
    }
    goals: dict[str, float | None] = {"last": None}
    if engine is not None:
        examples = written_out(prompts, every)
        best, _ = best_batch_size(engine, examples[:2])
        ways["TRL"] = functools.partial(trl, engine, examples, best)
        goals["TRL"] = ALL_TARGETS_OF_TRL
    totals = {"all": every.measure.total, "last": last.measure.total}
    tokens = {name: round(each.expected) for name, each in totals.items()}
    seconds = in_turns(ways, given.rounds, warm_up=False)
    learnt = dict.fromkeys(ways, totals["all"].targets) | {"last": totals["last"].targets}
    rates = {name: [learnt[name] / s for s in took] for name, took in seconds.items()}
    for peer_name, goal in goals.items():
        compare(
            f"train_all_targets_{given.histories}_{peer_name.lower()}_{given.negatives}_negatives",
            rates,
            peer=peer_name,
            unit="targets/s",
            what=f"training on every item of a history, {given.histories}, {given.negatives} "
            f"negatives a positive: {peer_name}",
            target=goal,
            more_is_better=True,
            more={
                "users": len(every.data),
                "targets": learnt,
                "tokens": tokens,
                "tokens written out": round(totals["all"].separate),
            },
        )


def main() -> None:
    """Run one of the two comparisons."""
    options = parser(__doc__ or "")
    options.add_argument("--trl", help="Python of an environment with TRL")
    options.add_argument("--users", type=int, default=4)
    options.add_argument(
        "--histories", choices=("industrial", "games"), help="all targets of its histories"
    )
    options.add_argument("--negatives", type=int, default=1, help="with --histories")
    given = options.parse_args()
    if not given.trl and not given.histories:
        options.error("give --trl, or --histories")
    if not given.trl:
        compare_targets(given, None)
        return
    modules = pick_targets(load_model(ModelSource(given.model)).model)
    with peer(given.trl, "trl_train.py", given.model, ",".join(modules)) as engine:
        (compare_targets if given.histories else compare_prompts)(given, engine)


if __name__ == "__main__":
    main()
