"""A small run folder, and an adapter for it, for the tests of scoring."""

from pathlib import Path
from typing import Any

import numpy as np
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from trec_cli.core.jsonl import encode_all, read_items
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example, Item, Split, Summary
from trec_cli.core.runs import RunFolder
from trec_cli.prompts.learnt import save_settings
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings

CATALOGUE = 24
SPLITS: dict[Split, int] = {"train": 4, "valid": 2, "test": 6}


def make_run(folder: Path, splits: dict[Split, int] | None = None, candidates: int = 5) -> Path:
    """Write items, examples of all splits, and hierarchical summaries of them."""
    run = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    items = [Item(f"i{n}", {"title": f"Thing {n}", "kind": "ab"[n % 2]}) for n in range(CATALOGUE)]
    examples = [
        _example(split, number, candidates)
        for split, count in (splits or SPLITS).items()
        for number in range(count)
    ]
    write_lines(run.items, encode_all(items))
    write_lines(run.examples, encode_all(examples))
    write_lines(run.summaries("hier"), encode_all(map(_summary, examples)))
    return folder


def _example(split: Split, number: int, candidates: int) -> Example:
    draws = np.random.default_rng([len(split), number])
    ids = [f"i{n}" for n in draws.permutation(CATALOGUE)]
    shown = ids[:candidates]
    return Example(
        example_id=f"{split}-{number}",
        user_id=f"user-{number}",
        split=split,
        history=ids[candidates : candidates + number % 5],
        candidates=shown,
        positives=[shown[number % candidates]],
    )


def _summary(example: Example) -> Summary:
    text = "Likes a. " * (1 + len(example.history))
    return Summary(
        example_id=example.example_id,
        user_id=example.user_id,
        split=example.split,
        mode="hier",
        summary=text,
        blocks=[],
        model="by hand",
    )


def make_adapter(run: Path, model: Path, folder: Path, **settings: Any) -> Path:
    """Write an adapter with random weights, large enough to change the scores."""
    set_seed(1)
    base = AutoModelForCausalLM.from_pretrained(model)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(model)
    items = read_items(RunFolder(run).items)
    save_settings(folder, PromptBuilder(tokenizer, items, PromptSettings(**settings)))
    return folder
