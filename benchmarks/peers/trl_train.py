"""TRL's SFTTrainer behind standard streams; run by the Python of an environment with TRL.

    python trl_train.py MODEL TARGET_MODULES

Reads lines ``{"examples": [{"prompt": [ids], "answer": id}], "batch_size": n, "step": n}``,
trains a fresh adapter for one epoch on each, and writes ``{"seconds": s}``.
"""

import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def seconds_of(model_name: str, targets: list[str], asked: dict) -> float:
    """Train once; loading, tokenizing and saving are not counted."""
    data = Dataset.from_list(
        [
            {
                "input_ids": [*example["prompt"], example["answer"]],
                "completion_mask": [0] * len(example["prompt"]) + [1],
            }
            for example in asked["examples"]
        ]
    )
    model = AutoModelForCausalLM.from_pretrained(model_name, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=asked["batch_size"],
            gradient_accumulation_steps=max(1, asked["step"] // asked["batch_size"]),
            learning_rate=1e-4,
            completion_only_loss=True,
            max_length=None,
            packing=False,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            train_sampling_strategy="group_by_length",
        )
        trainer = SFTTrainer(
            model=model,
            args=config,
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(model_name),
            peft_config=LoraConfig(
                r=8, lora_alpha=16, lora_dropout=0.05, target_modules=targets, task_type="CAUSAL_LM"
            ),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def main() -> None:
    """Train line by line until the input ends."""
    for line in sys.stdin:
        answer = {"seconds": seconds_of(sys.argv[1], sys.argv[2].split(","), json.loads(line))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
