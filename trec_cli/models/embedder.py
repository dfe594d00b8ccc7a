"""Embedders: one text, one vector; a sentence-embedding model or the language model itself.

Several are named with commas between them; where the vectors of a whole catalogue are made,
they are put side by side (:class:`~trec_cli.models.vectors.CatalogueVectors`).

A *sentence-embedding model* is read as sentence-transformers does it: the last hidden
states of ``AutoModel``, pooled as ``1_Pooling/config.json`` says (the mean over tokens where
there is none), scaled to length 1.

A *language model* (``llm`` for the one that ``--model`` names, or another by its folder) was
never trained for this.  What works, measured on
two collections with a 135M Llama (``docs/attention.md`` has the figures): the mean over all
tokens but the first, which only serves as attention sink (Xiao et al. 2024); hidden states
after a third of the layers, because the last ones turn towards the next token (Skean et al.
2025); and every dimension standardised over a sample of the catalogue, because a few rogue
dimensions would decide every cosine (Timkey and van Schijndel 2021).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.utils import cached_file, logging

from trec_cli.core.errors import InputError, ModelError, UsageError
from trec_cli.core.json_file import read_json
from trec_cli.core.options import split_names
from trec_cli.models.chat import encode_text
from trec_cli.models.device import choose_device
from trec_cli.models.hub import is_away
from trec_cli.models.load import (
    explained,
    load_config,
    load_model,
    max_positions,
    model_identity,
    no_bars_in_logs,
    problem_of,
    refuse_random_weights,
    speed_up,
)
from trec_cli.models.source import LLM, ModelSource

Pooling = Literal["mean", "cls", "max"]
MAX_TOKENS = 256
"""Tokens of a text that are read; more say little about an item."""
_POOLING_FILE = Path("1_Pooling") / "config.json"
_LENGTH_FILE = "sentence_bert_config.json"
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}


@dataclass(frozen=True)
class Embedder:
    """A loaded embedder.

    Attributes:
        encode: gives the token ids of a text, special tokens included.
        hidden: gives hidden states [rows, tokens, size] of ids and mask [rows, tokens].
        pooling: how token vectors become one.
        skipped: tokens at the start that do not count.
        pad: any id to fill with.
        device: where the model is.
    """

    encode: Callable[[str], list[int]]
    hidden: Callable[[Tensor, Tensor], Tensor]
    pooling: Pooling
    skipped: int
    pad: int
    device: torch.device

    def batches(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Group texts of similar length, by index, the longest first.

        A batch, padded, has at most ``max_tokens``; a longer text is one by itself.
        """
        lengths = [len(self.encode(text)) for text in texts]
        batches: list[list[int]] = []
        for index in sorted(range(len(texts)), key=lambda index: -lengths[index]):
            # The first of a batch is its longest: every row is padded to it.
            if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= max_tokens:
                batches[-1].append(index)
            else:
                batches.append([index])
        return batches

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts as one batch: [texts, size], not yet scaled to length 1.

        Raises:
            ModelError: the model computes NaN or infinity.
        """
        rows = [self.encode(text) for text in texts]
        width = max(map(len, rows))
        padded = [[*row, *[self.pad] * (width - len(row))] for row in rows]
        ids = torch.tensor(padded, device=self.device)
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        places = torch.arange(width, device=self.device)
        mask = places < lengths[:, None]
        counted = mask & ((places >= self.skipped) | (lengths[:, None] <= self.skipped))
        vectors = pool(self.hidden(ids, mask.long()).float(), counted, self.pooling)
        if not bool(torch.isfinite(vectors).all()):
            raise ModelError("the embedder computed NaN or infinity; try --dtype float32")
        return vectors.cpu().numpy()


def pool(hidden: Tensor, counted: Tensor, pooling: Pooling) -> Tensor:
    """Pool token vectors [rows, tokens, size] where ``counted`` [rows, tokens]: [rows, size]."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "max":
        return hidden.masked_fill(~counted[..., None], float("-inf")).amax(dim=1)
    weights = counted[..., None].float()
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


@dataclass(frozen=True)
class EmbedderSource:
    """Which embedder, and where it runs.

    Attributes:
        name: ``llm``, or a name or folder of a sentence-embedding model or language model.
        llm: what ``llm`` means; its device, dtype and trust hold for the others, too.
        served: whether that model writes on a server, so that ``llm`` is what stands here
            for its tokenizer.
    """

    name: str
    llm: ModelSource
    served: bool = False

    @classmethod
    def each(cls, names: str, llm: ModelSource) -> "tuple[EmbedderSource, ...]":
        """Return the embedders that are named with commas between.

        Raises:
            UsageError: one stands there twice, or none.
        """
        found = split_names(names) or ()
        if not found or len(set(found)) != len(found):
            raise UsageError(f"--embedder {names} should name one embedder or several different")
        return tuple(cls(name, llm) for name in found)

    @classmethod
    def only(cls, names: str, llm: ModelSource, *, served: bool = False) -> "EmbedderSource":
        """Return the one embedder that is named.

        Raises:
            UsageError: there are several.
        """
        if len(cls.each(names, llm)) > 1:
            raise UsageError(
                f"--embedder {names} names several embedders; only --scorer blend, --scorer "
                "sequence and trec recommend join their vectors"
            )
        return cls(names.strip(), llm, served=served)

    @cached_property
    def is_llm(self) -> bool:
        """Whether it is a language model: ``llm``, or one that names no pooling of its own."""
        return self.name == LLM or _is_language_model(self.model)

    @property
    def model(self) -> ModelSource:
        """The model to load."""
        if self.name == LLM:
            return self.llm.unrounded
        return replace(self.llm.unrounded, name=self.name, revision=None)

    def identity(self) -> dict[str, Any]:
        """Describe what, beside the text, decides a vector; part of every key of the store.

        Raises:
            ModelError: there is no such model.
        """
        placement = choose_device(self.model.device, self.model.dtype)
        dtype = {"dtype": placement.precision}
        with self._helped():
            identity = {**model_identity(self.model), **dtype}
            if not self.is_llm:
                return {**identity, "pooling": read_pooling(self.model.name)}
            return {**identity, "pooling": "mean", "layer": middle_layer(load_config(self.model))}

    def load(self) -> Embedder:
        """Load the model; safetensors only.

        Raises:
            ModelError: it cannot be loaded, or is no model of this kind.
        """
        with self._helped():
            return _load_llm(self.model) if self.is_llm else _load_sentence_model(self.model)

    @contextmanager
    def _helped(self) -> Iterator[None]:
        """Explain of an error which option names the model, and what else there is."""
        try:
            yield
        except ModelError as error:
            if self.name == LLM and self.served:
                raise ModelError(
                    f"--embedder llm cannot be used: {problem_of(error)} A server gives no "
                    "vectors, so the model itself must be here: name its folder with "
                    "--tokenizer, or a sentence-embedding model with --embedder."
                ) from error
            if self.name == LLM:
                raise
            raise ModelError(
                f"--embedder {self.name} cannot be used: {problem_of(error)} Give a folder: "
                "--embedder models/all-MiniLM-L6-v2 (made by `make embedder`)."
            ) from error


def middle_layer(config: Any) -> int:
    """Return after how many layers of a language model its hidden states are taken: a third."""
    layers: int = config.get_text_config().num_hidden_layers
    return max(1, round(layers / 3))


def _is_language_model(source: ModelSource) -> bool:
    """Check for a causal language model that does not say how to pool it.

    Raises:
        ModelError: there is no such model.
    """
    kinds = getattr(load_config(source), "architectures", None) or ()
    causal = any(str(kind).endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)
    return causal and not _read_json(source.name, _POOLING_FILE.as_posix())


def _load_llm(source: ModelSource) -> Embedder:
    config = load_config(source)
    layer = middle_layer(config)
    _leave_layers(config, layer + 1)
    with _quiet():  # about the weights that are left out on purpose
        llm = load_model(source, config=config)
    speed_up(llm)
    tokenizer = llm.tokenizer
    sink = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    first = [] if sink is None else [sink]

    def encode(text: str) -> list[int]:
        return [*first, *encode_text(tokenizer, text)][:MAX_TOKENS]

    def hidden(ids: Tensor, mask: Tensor) -> Tensor:
        output = llm.model.base_model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        )
        states: Tensor = output.hidden_states[layer]
        return states

    return Embedder(encode, hidden, "mean", len(first), tokenizer.pad_token_id or 0, llm.device)


def _leave_layers(config: Any, count: int) -> None:
    """Let a model be loaded with its first layers only: the others would not be heard.

    One more than is needed, because what comes out of the last one is normalised.
    """
    text = config.get_text_config()
    text.num_hidden_layers = min(count, text.num_hidden_layers)
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[: text.num_hidden_layers]


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _load_sentence_model(source: ModelSource) -> Embedder:
    no_bars_in_logs()
    placement = choose_device(source.device, source.dtype)
    remote = {
        "trust_remote_code": source.trust_remote_code,
        "local_files_only": is_away(source.name),
    }
    with explained(source.name):
        tokenizer = AutoTokenizer.from_pretrained(source.name, **remote)
        model, report = AutoModel.from_pretrained(
            source.name,
            dtype=placement.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **remote,
        )
    # Sentence-embedding models do not use the pooler, and some do not bring it.
    missing = (key for key in report["missing_keys"] if "pooler" not in key)
    refuse_random_weights(source.name, missing, "embedding model")
    model = model.to(placement.device).eval()
    longest = _longest(source.name, max_positions(model.config))

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
        return ids

    def hidden(ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states

    pooling, pad = read_pooling(source.name), tokenizer.pad_token_id or 0
    return Embedder(encode, hidden, pooling, 0, pad, placement.device)


def read_pooling(name: str) -> Pooling:
    """Read how a model folder wants its token vectors pooled; the mean where it says nothing.

    A name on a hub is looked up there as its other files are.

    Raises:
        ModelError: it wants something that is not there (several at once, weighted means).
    """
    config = _read_json(name, _POOLING_FILE.as_posix())
    wanted = [key for key, value in config.items() if key.startswith("pooling_mode") and value]
    found = [_POOLINGS[key] for key in wanted if key in _POOLINGS]
    if len(found) != len(wanted) or len(found) > 1:
        raise ModelError(
            f"--embedder {name} pools by {', '.join(wanted)}; only one of mean, cls and max is "
            "there. Name another embedding model."
        )
    return found[0] if found else "mean"


def _longest(name: str, positions: int | None) -> int:
    """Return the longest text in tokens: what the model was trained for, and what it can."""
    trained = _read_json(name, _LENGTH_FILE).get("max_seq_length")
    return min(n for n in (MAX_TOKENS, trained, positions) if n)


def _read_json(name: str, file: str) -> Mapping[str, Any]:
    """Read a small file of a model; empty where it has none."""
    with explained(name):
        path = cached_file(
            name, file, local_files_only=is_away(name), _raise_exceptions_for_missing_entries=False
        )
    if path is None:
        return {}
    try:
        return read_json(Path(path), dict[str, Any])
    except msgspec.DecodeError as error:
        raise InputError.of(path, f"is not JSON: {error}", "fetch the model again") from None
