"""The model card."""

from pathlib import Path

from trec_cli import __version__
from trec_cli.train.publish import Card


def card(**more: object) -> Card:
    values: dict[str, object] = {
        "base_model": 'models/a "quoted" one',
        "revision": "abc",
        "mode": "hier",
        "data": {"training examples": 3},
        "settings": {"learning_rate": 0.0001, "lora_targets": ("q", "v"), "quantize": None},
        "best": {"step": 4, "loss": 0.512345, "mrr@10": 0.25},
        "steps": 9,
        "inputs": {"items.jsonl": "123"},
    }
    return Card(**{**values, **more})  # type: ignore[arg-type]


def test_the_card_as_a_whole(tmp_path: Path) -> None:
    card().save(tmp_path)
    assert (
        (tmp_path / "README.md").read_text()
        == f"""\
---
base_model: "models/a \\"quoted\\" one"
library_name: peft
pipeline_tag: text-generation
tags:
- lora
- recommendation
- trec
---

# Recommender adapter (hier summaries)

A LoRA adapter for `models/a "quoted" one`, trained by `trec train` to answer whether a user \
will choose a candidate item next, given a summary of the user's preferences and the most \
recent items ([LLM-TRSR](https://arxiv.org/abs/2403.13325)). The score of a candidate is the \
log-odds of the answer yes.

Use it with `trec score`, which takes the prompt from `prompt.json` in this folder. It has \
learnt the users and items of one collection; on others nothing is known of it.

## Data

| | |
|---|---|
| training examples | 3 |

## Validation

Step 4 of 9 was the best.

| | |
|---|---|
| loss | 0.5123 |
| mrr@10 | 0.25 |

## Settings

| | |
|---|---|
| learning_rate | 0.0001 |
| lora_targets | q, v |
| quantize | – |

## Provenance

| | |
|---|---|
| trec | {__version__} |
| base model | models/a "quoted" one (abc) |
| sha256 of items.jsonl | 123 |
"""
    )


def test_without_validation_the_card_says_so() -> None:
    assert "Not validated" in card(best=None).text()


def test_the_card_of_an_adapter_of_texts_says_what_its_scores_are() -> None:
    text = card(settings={"ask": "text"}).text()
    assert "to continue a user's history with the text of the item that is chosen next" in text
    assert "The score of a candidate is how much likelier the user makes its text." in text
    assert "answer" not in text
