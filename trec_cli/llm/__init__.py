"""Causal language models: loading, devices, answers, packing and generation."""

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model where none is named; here, because the commands read it without torch."""
