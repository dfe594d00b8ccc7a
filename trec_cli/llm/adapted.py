"""Loading a causal LM with a LoRA adapter on it."""

import dataclasses
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError

from trec_cli.errors import ModelError
from trec_cli.llm.load import LanguageModel, ModelSource, load_model


def load_adapted(source: ModelSource, adapter: Path | None) -> LanguageModel:
    """Load a causal LM, with an adapter on it where one is given.

    In float32 the adapter is folded into the weights, which costs no accuracy there and
    spares its products in every layer.

    Raises:
        ModelError: the model cannot be loaded, or the adapter does not fit it.
    """
    llm = load_model(source)
    if adapter is None:
        return llm
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
        raise ModelError(f"adapter {adapter} does not fit model {source.name}: {first}") from error
    if llm.placement.dtype is torch.float32:
        model = model.merge_and_unload()
    return dataclasses.replace(llm, model=model)
