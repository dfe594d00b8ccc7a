"""LoRA fine-tuning on packed trees of candidates, through the transformers Trainer."""
