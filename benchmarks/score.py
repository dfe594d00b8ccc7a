"""Scoring 21 candidates of a user: ours against the ways in which it is done elsewhere.

    python benchmarks/score.py --data DATA --model MODEL [--vllm PYTHON]

Peers: (a) one prompt at a time; (b) padded batches of a user's prompts, sorted by length;
(c) every prompt padded to 2,048 tokens, one by one, logits at every place, as research code
does it; (d) vLLM with prefix caching, reading the next token's log-probabilities, in an
environment of its own (``--vllm`` names its Python).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.common import Peer, about, compare, in_turns, parser, peer, real_prompts
from trec_cli.models.answers import AnswerTokens
from trec_cli.models.load import load_adapted, load_model
from trec_cli.models.log_odds import BranchScorer, plain_log_odds
from trec_cli.models.source import ModelSource
from trec_cli.prompts.recommend import PromptTree

Scores = list[float]
Way = Callable[[PromptTree], Scores]
PADDED_TO = 2048
RESEARCH, RESEARCH_SHARE = "padded to 2048", 3.0


def ours(scorer: BranchScorer, tree: PromptTree) -> Scores:
    """Score as ``trec score`` does."""
    return scorer([tree])[0]


@torch.inference_mode()
def one_by_one(model: Any, answers: AnswerTokens, tree: PromptTree) -> Scores:
    """Peer (a); only the last logits are computed, which favours it."""
    scores: Scores = plain_log_odds(model, tree, (answers.yes, answers.no)).tolist()
    return scores


@torch.inference_mode()
def padded(model: Any, answers: AnswerTokens, rows: int, tree: PromptTree) -> Scores:
    """Peer (b): left-padded batches of ``rows`` prompts, sorted by length."""
    order = sorted(range(len(tree.branches)), key=lambda place: len(tree.branches[place]))
    scores = [0.0] * len(order)
    for start in range(0, len(order), rows):
        places = order[start : start + rows]
        prompts = [[*tree.prefix, *tree.branches[place]] for place in places]
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1)
        odds = out.logits[:, -1, answers.yes] - out.logits[:, -1, answers.no]
        for place, value in zip(places, odds.tolist(), strict=True):
            scores[place] = value
    return scores


@torch.inference_mode()
def research(model: Any, answers: AnswerTokens, tree: PromptTree) -> Scores:
    """Peer (c): each prompt right-padded to 2,048 tokens, with logits at every place.

    All prompts cost the same, so only every third is scored; the caller multiplies.
    """
    scores = []
    for branch in tree.branches[:: int(RESEARCH_SHARE)]:
        prompt = [*tree.prefix, *branch]
        gap = [0] * (PADDED_TO - len(prompt))
        ids, mask = torch.tensor([prompt + gap]), torch.tensor([[1] * len(prompt) + gap])
        logits = model(input_ids=ids, attention_mask=mask).logits[0, len(prompt) - 1]
        scores.append(float(logits[answers.yes] - logits[answers.no]))
    return scores


def vllm(engine: Peer, answers: AnswerTokens, tree: PromptTree) -> Scores:
    """Peer (d): all prompts of a user in one call, with an empty prefix cache at its start."""
    prompts = [[*tree.prefix, *branch] for branch in tree.branches]
    asked = {"prompts": prompts, "answers": [answers.yes, answers.no]}
    scores: Scores = engine.ask(asked)["scores"]
    return scores


def largest_difference(ways: dict[str, Way], tree: PromptTree) -> dict[str, float]:
    """Compare the scores of every peer with ours."""
    mine = ways["ours"](tree)
    return {
        name: max(abs(a - b) for a, b in zip(mine, way(tree), strict=True))
        for name, way in ways.items()
        if name != "ours"
    }


PEERS = {
    "one by one": ("score_one_by_one", "one prompt at a time"),
    "padded batch": ("score_padded", "all 21 prompts of a user as one padded batch"),
    RESEARCH: ("score_research_style", "each prompt padded to 2,048 tokens, one by one"),
    "vLLM": ("score_vllm", "vLLM with prefix caching, log-probabilities of the next token"),
}


def run(
    collection: str,
    prefix: int,
    targets: dict[str, float | None],
    ways: dict[str, Way],
    trees: Sequence[PromptTree],
    rounds: int,
) -> None:
    """Measure the peers named in ``targets``, one user a round, and write the results."""
    chosen = {name: way for name, way in ways.items() if name in targets or name == "ours"}
    print(f"{collection}, {about(trees)}", flush=True)
    difference = {}
    if set(chosen) <= {"ours", "one by one", "vLLM"}:
        difference = largest_difference(chosen, trees[0])
    timed = {name: functools.partial(_nth, way, trees) for name, way in chosen.items()}
    seconds = in_turns(timed, rounds)
    if RESEARCH in seconds:
        seconds[RESEARCH] = [RESEARCH_SHARE * took for took in seconds[RESEARCH]]
    for name, target in targets.items():
        if name not in chosen:
            continue
        stem, what = PEERS[name]
        compare(
            f"{stem}_{collection}_{prefix}",
            seconds,
            peer=name,
            unit="s a user",
            what=f"scoring 21 candidates, {collection}, prefix of {prefix} tokens: {what}",
            target=target,
            more={**about(trees), "largest_difference": difference.get(name)},
        )


def _nth(way: Way, trees: Sequence[PromptTree], round_: int) -> Scores:
    return way(trees[round_ % len(trees)])


def main() -> None:
    """Run the comparisons that were asked for."""
    options = parser(__doc__ or "")
    options.add_argument("--vllm", help="Python of an environment with vLLM")
    options.add_argument("--only", help="collection:prefix, as in mind:1000")
    given = options.parse_args()
    source = ModelSource(given.model)
    model, packed = load_model(source).model, load_adapted(source, None, pack=True).model
    cases: dict[tuple[str, int], dict[str, float | None]] = {
        ("mind", 1000): {
            "one by one": 10,
            "padded batch": 15,
            RESEARCH: 30,
            "vLLM": 3,
        },
        ("mind", 300): {"one by one": 5, "padded batch": None, "vLLM": None},
        ("industrial", 700): {"one by one": 10, "vLLM": 3},
        ("industrial", 300): {"one by one": 5, "vLLM": None},
    }
    for (collection, prefix), targets in cases.items():
        if given.only and given.only != f"{collection}:{prefix}":
            continue
        prompts = real_prompts(
            collection, given.data, given.model, prefix=prefix, users=given.rounds
        )
        answers = prompts.builder.answers
        scorer = BranchScorer(packed, answers, 8192)
        ways: dict[str, Way] = {
            "ours": functools.partial(ours, scorer),
            "one by one": functools.partial(one_by_one, model, answers),
            "padded batch": functools.partial(padded, model, answers, 21),
            RESEARCH: functools.partial(research, model, answers),
        }
        if not given.vllm:
            run(collection, prefix, targets, ways, prompts.trees, given.rounds)
            continue
        with peer(given.vllm, "vllm_engine.py", given.model) as engine:
            vllm_way = functools.partial(vllm, engine, answers)
            both: dict[str, Way] = {**ways, "vLLM": vllm_way}
            vllm_way(prompts.trees[0])  # loads and warms up before anything is timed
            run(collection, prefix, targets, both, prompts.trees, given.rounds)


if __name__ == "__main__":
    main()
