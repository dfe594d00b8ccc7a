"""A language model as encoder of items, trained together with the sequence model (HLLM).

Every step encodes the whole catalogue with gradients, so that all items are negatives of
every target.  Where that does not fit the memory, the texts are encoded in chunks twice: once
for the loss, once more to hand each chunk its gradient (Gao et al. 2021, GradCache).
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel

from benchmarks.quality.q4 import dequantised, permuted_back
from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.training import Rows, batch_loss, batches, rate, train
from trec_cli.sequence.whitening import whitening


@dataclass(frozen=True)
class Tuning:
    """How an encoder is trained.

    Attributes:
        epochs, batch: passes over the histories, histories a step.
        encoder_rate, head_rate: peak learning rates.
        warm_epochs: of the head alone, on the frozen encoder, before.
        frozen_layers: lowest layers that stay as they are; embeddings too, where above 0.
        text: ``title`` or ``full``.
    """

    epochs: int = 10
    batch: int = 128
    encoder_rate: float = 5e-5
    head_rate: float = 1e-3
    warm_epochs: int = 10
    frozen_layers: int = 0
    text: str = "title"
    weight_decay: float = 0.01


class Encoder(nn.Module):
    """Texts as mean of last hidden states, whitened by a fixed map."""

    def __init__(self, model: nn.Module, rows: Sequence[Tensor], size: int, skipped: int) -> None:
        """Keep the model and the catalogue's tokens, in chunks of like length.

        Args:
            model: gives ``last_hidden_state``.
            rows: token numbers of every item.
            size: of a hidden state.
            skipped: tokens at the start that do not count.
        """
        super().__init__()
        self.model, self.size, self.skipped = model, size, skipped
        self.order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        self.rows = rows
        self.mean: Tensor
        self.map: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("map", torch.eye(size))

    def chunks(self, count: int) -> list[list[int]]:
        """Cut the catalogue into chunks of about equal numbers of tokens."""
        lengths = np.array([len(self.rows[row]) for row in self.order])
        bounds = np.searchsorted(np.cumsum(lengths), np.linspace(0, lengths.sum(), count + 1)[1:-1])
        return [[self.order[i] for i in part] for part in np.split(np.arange(len(lengths)), bounds)]

    def encode(self, chunk: Sequence[int]) -> Tensor:
        """Encode items: [items, size], whitened, float32."""
        device = self.mean.device
        found = [self.rows[row] for row in chunk]
        ids = nn.utils.rnn.pad_sequence(found, batch_first=True).to(device)
        lengths = torch.tensor([len(row) for row in found], device=device)
        places = torch.arange(ids.shape[1], device=device)
        mask = places < lengths[:, None]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        counted = (mask & (places >= self.skipped)).float()[..., None]
        pooled = (hidden.float() * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
        return (nn.functional.normalize(pooled, dim=-1) - self.mean) @ self.map

    @torch.no_grad()
    def all_texts(self, count: int = 8) -> Tensor:
        """Encode the catalogue without gradients, in its order."""
        out = torch.zeros(len(self.rows), self.size, device=self.mean.device)
        for chunk in self.chunks(count):
            out[chunk] = self.encode(chunk)
        return out

    @torch.no_grad()
    def whiten(self) -> None:
        """Set the map that whitens the catalogue's present vectors."""
        self.mean.zero_()
        self.map.copy_(torch.eye(self.size))
        mean, axes = whitening(self.all_texts().double().cpu().numpy())
        self.mean.copy_(torch.from_numpy(mean))
        self.map.copy_(torch.from_numpy(axes))


def load_encoder(kind: str, folder: Path, text: str, device: torch.device) -> Encoder:
    """Load ``minilm`` or ``smollm`` as :mod:`benchmarks.quality.pack` left it, not whitened yet."""
    tokens = np.load(folder / f"{kind}_tokens.npz")
    ends = np.cumsum(tokens[f"{text}_lengths"])[:-1]
    rows = [torch.from_numpy(row).long() for row in np.split(tokens[f"{text}_ids"], ends)]
    arrays: dict[str, Any] = {}
    for path in sorted(folder.glob(f"{kind}*.safetensors")):
        arrays.update(load_file(path))
    config = json.loads((folder / f"{kind}.json").read_text())
    model = _bert(arrays, config) if kind == "minilm" else _llama(arrays, config)
    size = config["hidden_size"]
    return Encoder(model, rows, size, skipped=0 if kind == "minilm" else 1).to(device)


def _bert(arrays: dict[str, Any], config: dict[str, Any]) -> nn.Module:
    vocabulary = len(arrays["embeddings.word_embeddings.weight"])
    shape = {**config, "vocab_size": vocabulary, "pad_token_id": 0}
    shape |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model: nn.Module = BertModel(BertConfig(**shape), add_pooling_layer=False)
    state = {n: torch.from_numpy(a).float() for n, a in arrays.items() if "pooler" not in n}
    _checked(model.load_state_dict(state, strict=False))
    return model


def _llama(arrays: dict[str, Any], config: dict[str, Any]) -> nn.Module:
    state = {}
    for name, array in arrays.items():
        if name.endswith(".q4"):
            name = name.removesuffix(".q4")
            array = permuted_back(name, dequantised(array), config)
        state[name.removeprefix("model.")] = torch.from_numpy(np.ascontiguousarray(array)).float()
    vocabulary = len(state["embed_tokens.weight"])
    special = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    model: nn.Module = LlamaModel(LlamaConfig(**{**config, "vocab_size": vocabulary, **special}))
    _checked(model.load_state_dict(state, strict=False))
    return model


def _checked(keys: Any) -> None:
    missing = [key for key in keys.missing_keys if "position_ids" not in key]
    if missing or [key for key in keys.unexpected_keys if "position_ids" not in key]:
        raise SystemExit(f"weights missing {missing[:3]}, unexpected {keys.unexpected_keys[:3]}")


def tune(
    encoder: Encoder,
    histories: Sequence[Rows],
    settings: SequenceSettings,
    tuning: Tuning,
    seed: int,
    *,
    chunks: int,
    cached: bool,
    after_epoch: Callable[[int, SequenceModel, Tensor], None] | None = None,
    until: float = math.inf,
) -> tuple[SequenceModel, Tensor]:
    """Train head and encoder; returns the head and the final text vectors.

    Args:
        encoder: trained in place.
        histories: of users, as rows.
        settings: of the head.
        tuning: how.
        seed: of the head and the order.
        chunks: into how many the catalogue is cut.
        cached: whether each chunk is encoded twice (less memory).
        after_epoch: gets epoch, head and text vectors.
        until: time (``time.monotonic``) at which training stops early.
    """
    warm = replace(settings, epochs=max(1, tuning.warm_epochs))
    head = train(encoder.all_texts(), histories, warm, seed)
    usable = [rows[-settings.max_history - 1 :] for rows in histories if len(rows) > 1]
    _freeze(encoder.model, tuning.frozen_layers)
    learnt = [p for p in encoder.model.parameters() if p.requires_grad]
    groups = [
        {"params": learnt, "lr": tuning.encoder_rate},
        {"params": list(head.parameters()), "lr": tuning.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=tuning.weight_decay)
    steps = tuning.epochs * math.ceil(len(usable) / tuning.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    cut = encoder.chunks(chunks)
    for epoch in range(tuning.epochs):
        head.train()
        for batch in batches(usable, tuning.batch, seed, 1000 + epoch):
            optimizer.zero_grad()
            _step(encoder, head, batch, cut, cached)
            nn.utils.clip_grad_norm_([*learnt, *head.parameters()], 1.0)
            optimizer.step()
            schedule.step()
        head.eval()
        if after_epoch:
            after_epoch(epoch, head, encoder.all_texts(chunks))
        if time.monotonic() > until:
            break
    return head, encoder.all_texts(chunks)


def _step(
    encoder: Encoder, head: SequenceModel, batch: Sequence[Rows], cut: list[list[int]], cached: bool
) -> None:
    order = torch.tensor([row for chunk in cut for row in chunk], device=encoder.mean.device)
    if not cached:
        made = torch.cat([encoder.encode(chunk) for chunk in cut])
        batch_loss(head, torch.zeros_like(made).index_copy(0, order, made), batch).backward()  # type: ignore[no-untyped-call]
        return
    with torch.no_grad():
        made = torch.cat([encoder.encode(chunk) for chunk in cut])
    leaf = torch.zeros_like(made).index_copy(0, order, made).requires_grad_()
    batch_loss(head, leaf, batch).backward()  # type: ignore[no-untyped-call]
    if leaf.grad is None:
        raise AssertionError("the loss does not reach the texts")
    for chunk in cut:
        (encoder.encode(chunk) * leaf.grad[chunk]).sum().backward()  # type: ignore[no-untyped-call]


def _freeze(model: nn.Module, layers: int) -> None:
    if layers <= 0:
        return
    for name, parameter in model.named_parameters():
        number = name.split("layer.")[-1] if "layer." in name else name.split("layers.")[-1]
        index = number.split(".")[0]
        below = index.isdigit() and int(index) < layers
        if below or "embed" in name:
            parameter.requires_grad_(False)
