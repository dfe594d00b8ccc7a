"""How much of the machine's matrix-multiply speed scoring reaches.

    python -m benchmarks.efficiency --data DATA --model MODEL

Only necessary operations count: every token of a tree (the prefix once) through the linear
layers, every query with the keys that it sees, two rows of the head.  The yardstick is a
float32 product of square matrices by the same library with the same threads, measured in
turns with the scoring.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.common import about, compare, parser, real_prompts
from trec_cli.models.load import load_adapted, load_model
from trec_cli.models.log_odds import BranchScorer
from trec_cli.models.source import ModelSource
from trec_cli.prompts.recommend import PromptTree

SIZE = 2048
TARGET = 0.7


def linear_weights(model: Any) -> int:
    """Count the weights that every token is multiplied with; the head is not among them."""
    head = model.get_output_embeddings()
    layers = (module for module in model.modules() if isinstance(module, nn.Linear))
    return sum(layer.weight.numel() for layer in layers if layer is not head)


def pairs(tree: PromptTree) -> int:
    """Count (query, key) pairs of a tree, a token with itself included."""
    prefix = len(tree.prefix)
    own = prefix * (prefix + 1) // 2
    return own + sum(len(b) * prefix + len(b) * (len(b) + 1) // 2 for b in tree.branches)


def necessary(model: Any, weights: int, tree: PromptTree) -> float:
    """Return the floating-point operations that the scores of a tree need."""
    config = model.config.get_text_config()
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    # A pair costs a product with the key and one with the value: 2 x 2 operations a number.
    attention = 4 * width * config.num_hidden_layers * pairs(tree)
    head = 2 * 2 * config.hidden_size * len(tree.branches)
    return float(2 * weights * tree.size + attention + head)


def matmul_speed() -> float:
    """Return operations per second of a product of square float32 matrices."""
    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    started = time.perf_counter()
    for _ in range(8):
        left @ right
    return 8 * 2 * SIZE**3 / (time.perf_counter() - started)


def scoring_speed(
    scorer: BranchScorer, cost: Callable[[PromptTree], float], trees: Sequence[PromptTree]
) -> float:
    """Return necessary operations per second over some trees."""
    started = time.perf_counter()
    for tree in trees:
        scorer([tree])
    return sum(map(cost, trees)) / (time.perf_counter() - started)


def main() -> None:
    """Measure both in turns, for short and long prefixes."""
    options = parser(__doc__ or "")
    given = options.parse_args()
    source = ModelSource(given.model)
    weights = linear_weights(load_model(source).model)
    llm = load_adapted(source, None, pack=True)
    cost = functools.partial(necessary, llm.model, weights)
    for prefix in (300, 1000):
        prompts = real_prompts("mind", given.data, given.model, prefix=prefix, users=2)
        scorer = BranchScorer(llm.model, prompts.builder.answers, 8192)
        scoring_speed(scorer, cost, prompts.trees[:1])
        matmul_speed()
        runs: dict[str, list[float]] = {"ours": [], "matmul": []}
        for _ in range(given.rounds):
            runs["matmul"].append(matmul_speed() / 1e9)
            runs["ours"].append(scoring_speed(scorer, cost, prompts.trees) / 1e9)
        compare(
            f"efficiency_{prefix}",
            runs,
            peer="matmul",
            unit="GFLOP/s",
            what=f"necessary operations of scoring, prefix of {prefix}: a {SIZE}-square product",
            target=TARGET,
            more_is_better=True,
            more=about(prompts.trees),
        )


if __name__ == "__main__":
    main()
