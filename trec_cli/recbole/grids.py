"""Which settings of which model are tried: four for each model of the paper, else two."""

import itertools
from typing import Any

Settings = dict[str, Any]

RATES = (0.0005, 0.002)
DROPOUTS = (0.2, 0.5)
EPOCHS = 50
PATIENCE = 5
BATCH = 512

_DROPOUT: dict[str, tuple[str, ...]] = {
    "NeuMF": ("dropout_prob",),
    "GRU4Rec": ("dropout_prob",),
    "NARM": ("dropout_probs",),
    "SASRec": ("hidden_dropout_prob", "attn_dropout_prob"),
    "DIN": ("dropout_prob",),
    "DIEN": ("dropout_prob",),
    "CORE": ("sess_dropout", "item_dropout"),
}
_FIXED: dict[str, Settings] = {"DIN": {"embedding_size": 64}, "DIEN": {"embedding_size": 64}}

PAPER = tuple(_DROPOUT)
"""The models that the paper compares with (NCF is NeuMF here)."""


def grid(model: str) -> list[Settings]:
    """Return the settings to try: two learning rates, and two dropouts for models of ``PAPER``."""
    names = _DROPOUT.get(model, ())
    dropouts = [_dropout(names, value) for value in DROPOUTS] if names else [{}]
    return [
        {"learning_rate": rate, **dropout} for rate, dropout in itertools.product(RATES, dropouts)
    ]


def fixed(model: str) -> Settings:
    """Return what differs from RecBole's defaults in every trial."""
    return _FIXED.get(model, {})


def _dropout(names: tuple[str, ...], value: float) -> Settings:
    """NARM takes a list: of the embeddings and of what it joins."""
    return {name: [value, value] if name == "dropout_probs" else value for name in names}
