"""A small world that can be learnt: every positive has a word that no negative has."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samples.tiny_model import build_model, build_tokenizer
from trec_cli.core.jsonl import encode_all
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example, Item, Split
from trec_cli.models.answers import AnswerTokens
from trec_cli.models.device import Placement
from trec_cli.models.load import LanguageModel
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder, PromptTree
from trec_cli.prompts.settings import PromptSettings
from trec_cli.prompts.template import Template
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.loss import LabelledTree

SHORT = Template("recommend", "Likes {summary}. Had {recent}. Next {candidate}?")
CPU = Placement(torch.device("cpu"), torch.float32, "a test")
YES_NO = AnswerTokens(300, 301, "Yes", "No")


def items(count: int = 60) -> dict[str, Item]:
    """Give a catalogue; the first half is good."""
    words = [("good" if place < count // 2 else "bad") for place in range(count)]
    return {f"i{n}": Item(f"i{n}", {"title": f"{word} {n}"}) for n, word in enumerate(words)}


def example(
    user: int, split: Split = "train", *, negatives: int = 5, positives: int = 1
) -> Example:
    """Give an example whose candidates are in an order that tells nothing."""
    random = np.random.default_rng(user)
    good, bad = (random.permutation(30), 30 + random.permutation(30))
    right = [f"i{n}" for n in good[:positives]]
    candidates = [*right, *(f"i{n}" for n in bad[:negatives])]
    return Example(
        example_id=f"e{user}",
        user_id=f"u{user}",
        split=split,
        history=[f"i{n}" for n in good[5 : 5 + user % 4]],
        candidates=[candidates[n] for n in random.permutation(len(candidates))],
        positives=right,
    )


def questions(count: int, split: Split = "train", **more: int) -> list[SummarizedExample]:
    """Give examples with a summary each."""
    start = {"train": 0, "valid": 1000, "test": 2000}[split]
    users = range(start, start + count)
    return [SummarizedExample(example(user, split, **more), f"thing {user % 7}") for user in users]


@lru_cache
def builder() -> PromptBuilder:
    """Give a builder of short prompts for the tiny tokenizer."""
    settings = PromptSettings(max_length=512, candidate_tokens=128)
    return PromptBuilder(build_tokenizer(chat=False), items(), settings, template=SHORT)


def training_examples(count: int, per_positive: int = 1, seed: int = 0) -> TrainingExamples:
    """Give a training set of this world."""
    return TrainingExamples(
        questions(count), builder(), negatives_per_positive=per_positive, seed=seed
    )


def language_model(family: str = "llama", **overrides: Any) -> LanguageModel:
    """Give a tiny model of a family, as it is loaded."""
    model = build_model(family, **overrides)
    return LanguageModel(model, build_tokenizer(chat=False), family, None, CPU)


def random_trees(seed: int, count: int, prefix: int = 90, branch: int = 12) -> list[LabelledTree]:
    """Give trees of random tokens, longer than the tiny models' sliding window of 64."""
    random = np.random.default_rng(seed)

    def tokens(length: int) -> list[int]:
        return [int(token) for token in random.integers(5, 500, length)]

    trees = []
    for number in range(count):
        branches = [tokens(branch + place) for place in range(2 + number)]
        tree = PromptTree(tokens(prefix + 7 * number), branches)
        trees.append(LabelledTree(tree, [place == 0 for place in range(len(branches))]))
    return trees


def write_run(folder: Path, *, train: int = 24, valid: int = 8) -> Path:
    """Write a run folder with items, examples of splits train and valid, and no summaries."""
    examples = [q.example for q in [*questions(train), *questions(valid, "valid")]]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "items.jsonl", encode_all(items().values()))
    write_lines(folder / "examples.jsonl", encode_all(examples))
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "recommend.txt").write_text(SHORT.text)
    return folder


def gradients(model: Any, compute: Callable[[], torch.Tensor]) -> tuple[float, dict[str, Any]]:
    """Give a loss and the gradient of every trainable weight."""
    model.zero_grad()
    loss = compute()
    torch.autograd.backward(loss)
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}
    return loss.item(), found
