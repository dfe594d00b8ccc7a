"""Load a causal LM, its tokenizer and an adapter on it: safetensors only, clear errors."""

import hashlib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from trec_cli.core.errors import ModelError
from trec_cli.models.device import Placement, choose_device
from trec_cli.models.int8_linear import round_linears
from trec_cli.models.packed_linear import pack_linears
from trec_cli.models.source import ModelSource
from trec_cli.models.tree_attention import use_tree_attention

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_SAMPLE_BYTES = 1 << 20
_IDENTIFYING = {".json", ".safetensors", ".model", ".jinja", ".txt", ".py"}
"""Files of a model folder that decide what it answers: weights, tokenizer, template, code."""


@dataclass(frozen=True)
class LanguageModel:
    """A loaded causal LM.

    Attributes:
        model: the transformers (or peft) model, in eval mode.
        tokenizer: its tokenizer.
        name: what the user asked for.
        revision: the resolved commit where the hub tells, else None.
        placement: device, dtype and why.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str | None
    placement: Placement

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.placement.device

    @property
    def max_positions(self) -> int | None:
        """The longest sequence the model can take, in tokens; None where unbounded."""
        return max_positions(self.model.config)


def max_positions(config: Any) -> int | None:
    """Read from a configuration the longest sequence, in tokens; None where unbounded."""
    value = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(value) if value else None


def load_tokenizer(source: ModelSource) -> Any:
    """Load the tokenizer alone (for ``--dry-run``).

    Raises:
        ModelError: it is not there, or broken.
    """
    with explained(source.name):
        return AutoTokenizer.from_pretrained(source.name, **source.hub_arguments)


def load_near_tokenizer(source: ModelSource) -> Any:
    """Load the tokenizer of a served model.

    Raises:
        ModelError: it is not there; names the option.
    """
    try:
        return load_tokenizer(source)
    except ModelError as error:
        raise ModelError(
            f"{problem_of(error)}\nA server's model needs a tokenizer here to count tokens: name "
            "one with --tokenizer NAME_OR_FOLDER (for the chat endpoint any similar one will do)"
        ) from None


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash vocabulary and chat template, wherever the tokenizer was loaded from."""
    content = [sorted(tokenizer.get_vocab().items()), getattr(tokenizer, "chat_template", None)]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


def load_config(source: ModelSource) -> Any:
    """Load the configuration alone (for ``--dry-run`` and settings)."""
    with explained(source.name):
        return AutoConfig.from_pretrained(source.name, **source.hub_arguments)


def no_bars_in_logs() -> None:
    """Keep the progress bars of transformers out of what is no terminal."""
    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def load_model(source: ModelSource, *, tokenizer: Any = None, **extra: Any) -> LanguageModel:
    """Load model and tokenizer onto the chosen device, in eval mode.

    A ``tokenizer`` that was loaded before is taken.  ``extra`` goes to ``from_pretrained``
    (a quantization config, or the model's configuration where that is known).

    Raises:
        ModelError: the folder or name does not exist, holds no safetensors, needs remote
            code that was not allowed, or cannot be reached.
    """
    placement = choose_device(source.device, source.dtype)
    no_bars_in_logs()
    if tokenizer is None:
        tokenizer = load_tokenizer(source)
    with explained(source.name):
        model, report = AutoModelForCausalLM.from_pretrained(
            source.name,
            dtype=placement.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **source.hub_arguments,
            **extra,
        )
    refuse_random_weights(source.name, report["missing_keys"], "causal LM")
    if "quantization_config" not in extra:
        model = model.to(placement.device)
    model.eval()
    use_tree_attention(model)
    revision = getattr(model.config, "_commit_hash", None)
    return LanguageModel(model, tokenizer, source.name, revision, placement)


def load_adapted(
    source: ModelSource,
    adapter: Path | None,
    *,
    pack: bool = False,
    head: bool = False,
    **known: Any,
) -> LanguageModel:
    """Load a causal LM, with an adapter on it where one is given.

    In float32 the adapter is folded into the weights, which costs no accuracy there and
    spares its products in every layer.  With ``pack`` the linear layers are made faster
    (:func:`speed_up`), with ``head`` the LM head, too.  ``known``
    is what of the model was loaded before (see :func:`load_model`).

    Raises:
        ModelError: the model cannot be loaded, or the adapter does not fit it.
    """
    llm = load_model(source, **known)
    if adapter is not None:
        llm = replace(llm, model=_adapted(llm, adapter, source.name))
    if pack:
        speed_up(llm, head=head)
    return llm


def speed_up(llm: LanguageModel, *, head: bool = False) -> None:
    """Replace linear layers with faster ones: packed, or in 8 bits where that was asked for.

    The model can only be asked from then on, not trained or saved.  ``head``: also the LM
    head, for decoding.
    """
    if llm.placement.int8:
        round_linears(llm.model, head=head)
    else:
        pack_linears(llm.model, head=head)


def _adapted(llm: LanguageModel, adapter: Path, name: str) -> Any:
    from peft import PeftModel  # a second that only adapters are worth

    weights = adapter / ADAPTER_WEIGHTS
    if not weights.is_file():  # peft would take a pickle in its place
        raise ModelError(f"adapter {adapter} has no {ADAPTER_WEIGHTS}; train it again")
    try:
        with warnings.catch_warnings():
            # peft 0.21 reads an attribute that transformers 5.24 calls deprecated
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
            model = PeftModel.from_pretrained(llm.model, str(adapter)).eval()
    except SafetensorError as error:
        raise ModelError(
            f"the weights of adapter {adapter} are damaged ({error}); train it again"
        ) from error
    except Exception as error:  # adapter_config.json may hold anything
        first = (str(error).splitlines() or [repr(error)])[0]
        raise ModelError(f"adapter {adapter} does not fit model {name}: {first}") from error
    _check_all_used(model, adapter)
    if llm.placement.dtype is torch.float32:
        model = model.merge_and_unload()
    return model


def _check_all_used(model: Any, adapter: Path) -> None:
    """Refuse an adapter of which peft has left weights out, or made some up.

    Raises:
        ModelError: configuration and weights name other modules.
    """
    from peft import get_peft_model_state_dict

    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
        names: list[str] = file.keys()
    saved = {name for name in names if "lora_" in name}
    used = get_peft_model_state_dict(model, save_embedding_layers=False)
    if saved != {name for name in used if "lora_" in name}:
        raise ModelError(
            f"adapter {adapter}: its weights are of other modules than adapter_config.json names; "
            "train it again"
        )


def refuse_random_weights(name: str, missing: Iterable[str], kind: str) -> None:
    """Refuse what transformers would fill with random numbers and a warning.

    Raises:
        ModelError: weights of the model, of this kind, are missing.
    """
    absent = sorted(missing)
    if absent:
        raise ModelError(
            f"model {name} is no complete {kind}: its files lack {len(absent)} weights, "
            f"for example {absent[0]}. Fetch it again, or name another model."
        )


def model_identity(source: ModelSource, config: Any = None) -> dict[str, str]:
    """Identify a model, for settings and stores: its name and what pins it.

    From the hub the resolved commit; for a folder a hash over its configuration, its
    tokenizer and the size, head and tail of every weights file (quick for 100 GB too).
    """
    folder = Path(source.name)
    if not folder.is_dir():
        commit = getattr(config or load_config(source), "_commit_hash", None)
        return {"name": source.name, "revision": str(commit or source.revision or "unknown")}
    # "." has no name of its own, and ".." that of no model.
    name = folder.resolve().name if folder.name in ("", "..") else folder.name
    return {"name": name, "revision": _folder_fingerprint(folder)}


def _folder_fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    files = (p for p in folder.iterdir() if p.suffix in _IDENTIFYING)
    for file in sorted(files):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


class NotLoaded(ModelError):  # noqa: N818 - reads as a statement
    """A model is not there.

    Attributes:
        problem: what is wrong, without the advice, which is for ``--model``.
    """

    def __init__(self, problem: str, advice: str) -> None:
        """Say what is wrong, and what to do about a language model."""
        self.problem = problem
        super().__init__(f"{problem} {advice}")


def problem_of(error: ModelError) -> str:
    """Return what is wrong with a model that another option than ``--model`` names."""
    return error.problem if isinstance(error, NotLoaded) else str(error)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn the many errors of loading into one clear sentence.

    A folder that is not there is refused at once: it looks like a name of the hub, which would
    be asked for it, offline for a minute.

    Raises:
        ModelError: in their place.
    """
    if _names_folder(name) and not Path(name).is_dir():
        raise _no_folder(name)
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise _why(name, error) from error


def _names_folder(name: str) -> bool:
    return Path(name).is_absolute() or name.startswith((".", "models/"))


def _no_folder(name: str) -> ModelError:
    return NotLoaded(
        f"no model folder {name}.", "Check the path; `make model` puts one into models/."
    )


def _why(name: str, error: Exception) -> ModelError:
    first = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    folder = Path(name)
    looks_local = _names_folder(name) or folder.exists()
    if looks_local and not folder.is_dir():
        return _no_folder(name)
    if looks_local and not (folder / "config.json").is_file():
        return ModelError(f"{name} is not a model folder: it has no config.json.")
    if "trust_remote_code" in str(error):
        return ModelError(
            f"model {name} brings its own code; allow it with --trust-remote-code if you trust it."
        )
    if isinstance(error, SafetensorError):
        return ModelError(f"the weights of model {name} are damaged; fetch them again: {first}")
    if "safetensors" in str(error):
        return ModelError(
            f"model {name} has no safetensors weights, and trec loads nothing else: {first}"
        )
    return NotLoaded(
        f"model {name} could not be loaded: {first}",
        "Without a connection to the hub, give a folder: --model models/SmolLM2-135M-Instruct "
        "(made by `make model`).",
    )
