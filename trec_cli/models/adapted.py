"""Loading a causal LM with a LoRA adapter on it."""

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError

from trec_cli.core.errors import ModelError
from trec_cli.models.load import LanguageModel, load_model
from trec_cli.models.source import ModelSource
from trec_cli.models.packed_linear import pack_linears


def load_adapted(source: ModelSource, adapter: Path | None, *, pack: bool = False) -> LanguageModel:
    """Load a causal LM, with an adapter on it where one is given.

    In float32 the adapter is folded into the weights, which costs no accuracy there and
    spares its products in every layer.  With ``pack`` the linear layers but the head are
    packed where that is possible: the model computes faster, and cannot be saved.

    Raises:
        ModelError: the model cannot be loaded, or the adapter does not fit it.
    """
    llm = load_model(source)
    if adapter is not None:
        llm = dataclasses.replace(llm, model=_adapted(llm, adapter, source.name))
    if pack:
        pack_linears(llm.model)
    return llm


def _adapted(llm: LanguageModel, adapter: Path, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads an attribute that transformers 5.24 calls deprecated
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            model = PeftModel.from_pretrained(llm.model, str(adapter)).eval()
    except SafetensorError as error:
        raise ModelError(
            f"the weights of adapter {adapter} are damaged ({error}); train it again"
        ) from error
    except (RuntimeError, ValueError, OSError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"adapter {adapter} does not fit model {name}: {first}") from error
    if llm.placement.dtype is torch.float32:
        model = model.merge_and_unload()
    return model
