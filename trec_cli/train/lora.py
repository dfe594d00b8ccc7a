"""The adapter: which modules get one, quantized bases, folding it into full weights."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import (
    LoraConfig,
    PeftModel,
    TaskType,
    get_peft_model,
    prepare_model_for_kbit_training,
)
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import BitsAndBytesConfig, set_seed

from trec_cli.core.errors import UsageError
from trec_cli.core.json_file import read_json
from trec_cli.core.outputs import write_bytes
from trec_cli.core.seeds import derive_seed
from trec_cli.models.device import Placement
from trec_cli.train.settings import LoraSettings, Quantization, TrainSettings

ATTENTION_PROJECTIONS = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # Llama, Mistral, Qwen, Gemma
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # OPT, GPT-Neo
    ("q_proj", "k_proj", "v_proj", "dense"),  # Phi
    ("qkv_proj", "o_proj"),  # Phi-3
    ("query_key_value", "dense"),  # GPT-NeoX (Pythia), Falcon, BLOOM
)
"""Names of query, key, value and output projections, family by family."""

PEFT_CARD = "README.md"
"""peft writes an empty model card beside every adapter; ours says something."""

PEFT_CONFIG = "adapter_config.json"
_SETS = {"target_modules", "exclude_modules"}
_32_BITS = 1 << 32
_LORA = "lora_"


def linear_names(model: nn.Module) -> list[str]:
    """Return the last part of the name of every linear layer, the LM head excluded."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    return sorted(names)


def pick_targets(model: Any, asked: tuple[str, ...] | None = None) -> list[str]:
    """Return the modules that get an adapter.

    The asked ones; else the attention projections, if the model names them as a known
    family does; else what peft takes for this kind of model.

    Raises:
        UsageError: an asked name is not in the model, or nothing is known of the model.
    """
    present = linear_names(model)
    there = ", ".join(present) or "none"
    if asked:
        paths = [name for name, _ in model.named_modules()]
        absent = [a for a in asked if not any(p == a or p.endswith(f".{a}") for p in paths)]
        if absent:
            raise UsageError(
                f"--target-modules {', '.join(absent)}: the model has no such module; "
                f"its linear layers are {there}"
            )
        return list(asked)
    for names in ATTENTION_PROJECTIONS:
        if set(names) <= set(present):
            return list(names)
    default = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model.config.model_type)
    if default is None:
        raise UsageError(
            f"no attention projections known for a {model.config.model_type} model; name the "
            f"modules with --target-modules (its linear layers are {there})"
        )
    return list(default)


def upper_layers(config: Any, count: int | None) -> list[int] | None:
    """Return the numbers of a model's ``count`` upper layers; None for all.

    Raises:
        UsageError: the model has no more than that, or says no number of layers.
    """
    if count is None:
        return None
    total = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if count >= total:
        raise UsageError(
            f"--lora-layers {count}: the model has {total} layers; give fewer, or leave it out"
        )
    return list(range(total - count, total))


def add_adapter(model: Any, settings: TrainSettings, revision: str | None = None) -> PeftModel:
    """Add a fresh adapter to the model; its weights come from the seed alone.

    Raises:
        UsageError: as :func:`pick_targets`.
    """
    lora: LoraSettings = settings.lora
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=pick_targets(model, lora.targets),
        layers_to_transform=upper_layers(model.config, lora.layers),
        revision=revision,
    )
    if settings.quantize:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=settings.gradient_checkpointing
        )
    set_seed(torch_seed(settings.seed))
    with warnings.catch_warnings():
        # peft still asks by the name that transformers 5.24 deprecates
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def torch_seed(seed: int) -> int:
    """Derive the seed of torch's global generator (adapter weights, dropout): 32 bits."""
    return derive_seed(seed, "train") % _32_BITS


def save_memory(model: Any) -> None:
    """Compute activations again in the backward pass instead of keeping them."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    enable = enable or model.gradient_checkpointing_enable  # its name before transformers 5.24
    enable({"use_reentrant": False})


Weights = dict[str, Tensor]
"""Of an adapter, by name."""


def gathered(model: PeftModel) -> Weights | None:
    """Gather the adapter's weights where FSDP has dealt them out; None where they are whole.

    All processes must ask together; each gets all.
    """
    own = {name: each for name, each in model.named_parameters() if _LORA in name}
    if not any(isinstance(each, DTensor) for each in own.values()):
        return None
    return {
        name: (each.full_tensor() if isinstance(each, DTensor) else each).detach().cpu()
        for name, each in own.items()
    }


def save_adapter(model: PeftModel, folder: Path, weights: Weights | None = None) -> None:
    """Write ``adapter_model.safetensors`` and ``adapter_config.json`` into a folder.

    ``weights`` are those of :func:`gathered`.
    """
    model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)
    (folder / PEFT_CARD).unlink(missing_ok=True)
    _sort_sets(folder / PEFT_CONFIG)


def _sort_sets(config: Path) -> None:
    """Sort the lists that peft keeps as sets: their order would change from run to run."""
    content = read_json(config, dict[str, Any])
    for name in _SETS.intersection(content):
        if isinstance(content[name], list):
            content[name] = sorted(content[name])
    body = msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2)
    write_bytes(config, [body])


def check_quantization(bits: Quantization | None) -> None:
    """Refuse ``--quantize`` where it cannot work, before anything is loaded.

    Raises:
        UsageError: no CUDA, or bitsandbytes is not installed.
    """
    if bits is None:
        return
    if not torch.cuda.is_available():
        raise UsageError(
            f"--quantize {bits} needs an NVIDIA GPU (CUDA), and none is found here; "
            "leave it out, or train on a machine with one"
        )
    if find_spec("bitsandbytes") is None:
        raise UsageError(f"--quantize {bits} needs bitsandbytes: pip install 'trec-cli[quantize]'")


def quantization(bits: Quantization | None, placement: Placement) -> dict[str, Any]:
    """Return what ``load_model`` passes on to load the base model in 4 or 8 bits.

    The device is the placement's: torch's current one is the first GPU in every process
    until the Trainer has started.
    """
    if bits is None:
        return {}
    if bits == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=placement.dtype,
        )
    return {"quantization_config": config, "device_map": {"": placement.device.index or 0}}
