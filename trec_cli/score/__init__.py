"""Scores for candidates: the language model and the baselines beside it."""
