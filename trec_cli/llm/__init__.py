"""Causal language models: loading, devices, answers, packing and generation."""
