"""What a training leaves behind: the adapter folder with its card, and full weights."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from trec_cli import __version__
from trec_cli.core.manifest import Provenance, file_hash, manifest_path, up_to_date
from trec_cli.core.outputs import locked, write_bytes
from trec_cli.models.load import load_adapted, load_config
from trec_cli.models.source import ModelSource
from trec_cli.prompts.learnt import SETTINGS_FILE, Less, save_settings
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.train.lora import Weights, save_adapter
from trec_cli.train.work import BEST_FILE, MARKER, WorkFolder, replace_folder

CARD_FILE = "README.md"
PAPER = "https://arxiv.org/abs/2403.13325"
_LEARNT = {
    "answer": (
        "to answer whether a user will choose a candidate item next",
        "the log-odds of the answer yes",
    ),
    "text": (
        "to continue a user's history with the text of the item that is chosen next",
        "how much likelier the user makes its text",
    ),
}
"""By what is asked for: what the adapter was trained to do, and what a score is."""
ORIGIN_FILE = "merged.json"
"""In the merged folder: what it was made from."""


@dataclass(frozen=True)
class Card:
    """What the card says.

    Attributes:
        base_model: as the user named it.
        revision: what pins it.
        mode: of the summaries.
        data: facts on the examples, by name.
        settings: of prompt and training, by name.
        best: step and validation metrics of the adapter kept, or None without validation.
        steps: optimizer steps in all.
        inputs: SHA-256 of every input, by path as given.
    """

    base_model: str
    revision: str
    mode: str
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    best: Mapping[str, float] | None
    steps: int
    inputs: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Write the card as Markdown with the hub's front matter."""
        sections = [
            self._front_matter(),
            self._introduction(),
            "## Data\n\n" + _table(self.data),
            "## Validation\n\n" + self._validation(),
            "## Settings\n\n" + _table(self.settings),
            "## Provenance\n\n" + _table(self._provenance()),
        ]
        return "\n\n".join(sections) + "\n"

    def _front_matter(self) -> str:
        named = msgspec.json.encode(self.base_model).decode()
        return (
            f"---\nbase_model: {named}\nlibrary_name: peft\npipeline_tag: text-generation\n"
            "tags:\n- lora\n- recommendation\n- trec\n---"
        )

    def _introduction(self) -> str:
        learnt, score = _LEARNT[self.settings.get("ask", "answer")]
        alone = self.mode == "none"
        known = "" if alone else "a summary of the user's preferences and "
        return (
            f"# Recommender adapter ({'no' if alone else self.mode} summaries)\n\n"
            f"A LoRA adapter for `{self.base_model}`, trained by `trec train` {learnt}, given "
            f"{known}the most recent items ([LLM-TRSR]({PAPER})). "
            f"The score of a candidate is {score}.\n\n"
            "Use it with `trec score`, which takes the prompt from `prompt.json` in this "
            "folder. It has learnt the users and items of one collection; on others nothing is "
            "known of it."
        )

    def _validation(self) -> str:
        if self.best is None:
            return "Not validated: the adapter is the one of the last step."
        metrics = {name: value for name, value in self.best.items() if name != "step"}
        step = int(self.best["step"])
        return f"Step {step} of {self.steps} was the best.\n\n{_table(metrics)}"

    def _provenance(self) -> dict[str, Any]:
        return {
            "trec": __version__,
            "base model": f"{self.base_model} ({self.revision})",
            **{f"sha256 of {name}": value for name, value in self.inputs.items()},
        }

    def save(self, folder: Path) -> None:
        """Write ``README.md`` into the adapter folder."""
        write_bytes(folder / CARD_FILE, [self.text().encode()])


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {_shown(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value).replace("|", "\\|")


def publish(
    work: WorkFolder,
    model: Any,
    builder: PromptBuilder,
    less: Less,
    card: Card,
    provenance: Provenance,
    details: Mapping[str, Any],
    weights: Weights | None = None,
) -> None:
    """Move the adapter folder to its name, whole, with its manifest; remove the work folder.

    Args:
        work: of the finished training.
        model: with the adapter of the last step, for a training without validation.
        builder: whose prompt the adapter has learnt.
        less: whose likelihood of texts without a user it has learnt to be scored against.
        card: the model card.
        provenance: of the training.
        details: what else the manifest says.
        weights: of that adapter, where the processes had to gather them.
    """
    final = work.path / "final"
    shutil.rmtree(final, ignore_errors=True)
    if work.read_best() is None:
        save_adapter(model, final, weights)
    else:
        shutil.copytree(work.best, final, ignore=shutil.ignore_patterns(BEST_FILE, MARKER))
    save_settings(final, builder, less)
    shutil.copyfile(work.log, final / work.log.name)
    card.save(final)
    manifest_path(work.out).unlink(missing_ok=True)
    replace_folder(final, work.out)
    provenance.write(work.out, details)
    work.remove()


def merged_folder(adapter: Path) -> Path:
    """Name the folder of the merged model: ``model-hier-merged`` beside ``model-hier``."""
    return adapter.with_name(f"{adapter.name}-merged")


def merge_adapter(source: ModelSource, adapter: Path, *, overwrite: bool = False) -> bool:
    """Fold ``adapter`` into the base model and save both with the tokenizer.

    The base model is loaded unquantized on the CPU, whatever it was trained with; the sum
    is made in float32 and saved in the base model's own dtype. ``prompt.json`` is put in
    too: ``trec score --model`` needs the same prompt. ``merged.json`` says from which adapter;
    it also tells two merges apart where all that differs lies in the middle of large weights.

    Returns:
        False where the merged folder was there already, made from this adapter.

    Raises:
        SettingsChanged: it was made from another adapter, and not ``overwrite``.
    """
    out = merged_folder(adapter)
    with locked(out):
        provenance = Provenance("train --merge", {"base_model": source.name}, [adapter])
        if up_to_date(out, provenance.settings, overwrite=overwrite):
            return False
        llm = load_adapted(replace(source, device="cpu", dtype="float32"), adapter)
        fresh = out.with_name(f".{out.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        llm.model.to(load_config(source).dtype or torch.float32).save_pretrained(str(fresh))
        llm.tokenizer.save_pretrained(str(fresh))
        shutil.copyfile(adapter / SETTINGS_FILE, fresh / SETTINGS_FILE)
        origin = {"base_model": source.name, "adapter_sha256": file_hash(adapter)}
        write_bytes(fresh / ORIGIN_FILE, [msgspec.json.encode(origin)])
        with provenance.publish(out):
            replace_folder(fresh, out)
    return True
