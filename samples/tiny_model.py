"""Write a tiny random causal LM with a byte-level tokenizer, for tests and CI smoke runs.

    python samples/tiny_model.py models/tiny --family llama

Nothing is fetched: the weights are random (seeded), the tokenizer is trained on the
sample collection's words or falls back to bytes.  Its answers mean nothing; it shows
that all stages run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

VOCABULARY = 512
CORPUS = [
    "Yes No yes no Yes No yes no",
    "Would this user like the item? Answer yes or no.",
    "Summarize what the user likes: news, sports, games, kitchen tools, travel, music.",
    "title: category: subcategory: brand: description: price: color: size:",
] * 50
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 64},
    "qwen2": GROUPED,
    "gemma2": {**GROUPED, "head_dim": 8, "sliding_window": 64},
    "gemma3_text": {**GROUPED, "head_dim": 8, "sliding_window": 64},
    "gpt_neox": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "do_layer_norm_before": True},
}


def build_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """Train a small byte-level BPE: any text can be written and read back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<|im_end|>", "<pad>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(family: str, seed: int = 0, **overrides: Any) -> Any:
    """Build a two-layer model of a family with seeded random weights, float32."""
    config = AutoConfig.for_model(family, **{**SMALL, **FAMILIES[family], **overrides})
    set_seed(seed)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def write_model(folder: Path, family: str = "llama", seed: int = 0, *, chat: bool = True) -> Path:
    """Save model and tokenizer as a folder that ``--model`` takes."""
    build_model(family, seed).save_pretrained(folder)
    build_tokenizer(chat=chat).save_pretrained(folder)
    return folder


def write_embedder(folder: Path, seed: int = 0, pooling: str = "mean_tokens") -> Path:
    """Save a tiny random BERT in the layout of sentence-transformers, for ``--embedder``."""
    sizes = {name: value for name, value in SMALL.items() if not name.endswith("_token_id")}
    set_seed(seed)
    model = AutoModel.from_config(AutoConfig.for_model("bert", **sizes), dtype=torch.float32)
    model.eval().save_pretrained(folder)
    build_tokenizer(chat=False).save_pretrained(folder)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", choices=sorted(FAMILIES), default="llama")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embedder", action="store_true", help="an embedding model instead")
    options = parser.parse_args()
    if options.embedder:
        print(f"wrote {write_embedder(options.folder, options.seed)}")
    else:
        print(f"wrote {write_model(options.folder, options.family, options.seed)}")
