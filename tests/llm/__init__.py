"""Tests of models, answers and packing."""
