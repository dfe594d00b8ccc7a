"""Cheap evidence that a candidate comes next: counts, texts, vectors; and what weighs it."""
