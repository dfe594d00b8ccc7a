"""Finding the adapter of a run, its base model and its prompt; no torch needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.json_file import read_json
from trec_cli.core.lineage import weights_of
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.prompts.learnt import SETTINGS_FILE, LearntPrompt, load_settings
from trec_cli.prompts.settings import PromptSettings

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass(frozen=True)
class Adapter:
    """A trained adapter and what it was trained with.

    Attributes:
        folder: the PEFT folder.
        base_model: name or folder of the model that it belongs to.
        revision: of that model, where it was named.
        learnt: the prompt that it has learnt from.
    """

    folder: Path
    base_model: str
    revision: str | None
    learnt: LearntPrompt

    @property
    def files(self) -> list[Path]:
        """The files that decide the scores."""
        return [self.folder / name for name in (CONFIG_FILE, WEIGHTS_FILE, SETTINGS_FILE)]

    def check_base(self, model: str) -> None:
        """Refuse another base model; the same folder name elsewhere counts as the same.

        Raises:
            UsageError: ``model`` is not what the adapter was trained on.
        """
        same_name = Path(model).name == Path(self.base_model).name
        if not same_name and not _same_folder(model, self.base_model):
            raise UsageError(
                f"--model {model} is not what the adapter {self.folder} was trained on "
                f"({self.base_model}). Leave --model out, or score without it: --zero-shot"
            )

    def changed(self) -> str:
        """Describe that the files are not those that ``trec train`` wrote; empty where they are.

        Weights have no checksum of their own: a byte that flipped would change every score.
        """
        recorded = (read_manifest(self.folder) or {}).get("sha256")
        if recorded is None or recorded == file_hash(self.folder):
            return ""
        return (
            f"the files of the adapter {self.folder} are not those that trec train wrote: they "
            "were changed or damaged since, and its scores may mean nothing; train it again"
        )

    def other_weights(self, identity: Mapping[str, str]) -> str:
        """Describe how the base model at hand differs from the one of the training; empty if equal.

        ``identity`` is that of :func:`~trec_cli.models.load.model_identity`; the training's
        stands in its manifest.  Where there is no manifest, nothing can be said.
        """
        trained_on = weights_of(read_manifest(self.folder) or {})
        if trained_on in ("unknown", identity["revision"]):
            return ""
        return (
            f"the adapter {self.folder} was trained on other files of {identity['name']} "
            f"({trained_on}, here {identity['revision']}); its scores may mean nothing"
        )


def check_prompt(learnt: PromptSettings, folder: Path, asked: Mapping[str, Any]) -> None:
    """Refuse prompt settings other than those that an adapter or merged model has learnt from.

    Args:
        learnt: what ``prompt.json`` says.
        folder: where that lies.
        asked: fields of :class:`PromptSettings`, only those that the user gave.

    Raises:
        UsageError: naming each setting with both values.
    """
    differ = [
        f"{_option(name)} is {value} here and {getattr(learnt, name)} there"
        for name, value in asked.items()
        if value != getattr(learnt, name)
    ]
    if differ:
        raise UsageError(
            f"the prompt is not the one in {folder / SETTINGS_FILE}: {'; '.join(differ)}. "
            "What was trained is scored with the prompt that it was trained on: leave these "
            "options out, or score the base model (--zero-shot)"
        )


def check_attention(
    learnt: Mapping[str, Any] | None, folder: Path, found: Mapping[str, Any], vectors: Path
) -> str:
    """Refuse evidence that is chosen or cut otherwise than what was learnt from.

    Args:
        learnt: what ``prompt.json`` says of it; None says nothing (older adapters).
        folder: where that lies.
        found: the same of the evidence at hand.
        vectors: where that lies.

    Returns:
        A warning where another embedder made the vectors; empty where there is none.

    Raises:
        UsageError: naming each setting with both values.
    """
    if learnt is None:
        return ""
    differ = {name for name in found if found[name] != learnt.get(name)}
    told = [
        f"{_option(name)} is {found[name]} here and {learnt.get(name)} there"
        for name in sorted(differ - {"embedder"})
    ]
    if told:
        raise UsageError(
            f"the evidence of {vectors} is not of the kind in {folder / SETTINGS_FILE}: "
            f"{'; '.join(told)}. Run trec summarize --mode attention --query candidate with the "
            "settings that it was trained on, train again, or score the base model (--zero-shot)"
        )
    if not differ:
        return ""
    return (
        f"{folder} was trained on evidence by vectors of {_embedder(learnt)}, and {vectors} holds "
        f"those of {_embedder(found)}; its scores may mean less"
    )


def _embedder(recorded: Mapping[str, Any]) -> str:
    return ", ".join(map(str, recorded.get("embedder", {}).values())) or "an unknown embedder"


def _option(name: str) -> str:
    return "--chat-template" if name == "chat" else f"--{name.replace('_', '-')}"


def _same_folder(first: str, second: str) -> bool:
    return Path(first).is_dir() and Path(second).is_dir() and Path(first).samefile(second)


def read_adapter(folder: Path) -> Adapter:
    """Read what an adapter says of itself.

    Raises:
        InputError: the folder or one of its files is missing or damaged.
    """
    if not folder.is_dir():
        raise InputError.of(folder, "no such adapter folder", "run trec train, or use --zero-shot")
    config = _read_config(folder / CONFIG_FILE)
    base = config.get("base_model_name_or_path")
    if not base:
        raise InputError.of(folder / CONFIG_FILE, "names no base model", "train the adapter again")
    if not (folder / WEIGHTS_FILE).is_file():
        raise InputError.of(folder / WEIGHTS_FILE, "no such file", "train the adapter again")
    return Adapter(folder, str(base), config.get("revision"), load_settings(folder))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, dict[str, Any])
    except FileNotFoundError:
        raise InputError.of(
            path, "no such file", "name a folder with a PEFT adapter, or use --zero-shot"
        ) from None
    except msgspec.DecodeError as error:
        raise InputError.of(path, f"is not JSON: {error}", "train the adapter again") from None
