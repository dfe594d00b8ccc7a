"""The model card of an adapter: what it is, what it learnt from, how well it does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from trec_cli import __version__
from trec_cli.core.outputs import write_bytes

CARD_FILE = "README.md"
PAPER = "https://arxiv.org/abs/2403.13325"


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
        return (
            f"# Recommender adapter ({self.mode} summaries)\n\n"
            f"A LoRA adapter for `{self.base_model}`, trained by `trec train` to answer whether "
            "a user will choose a candidate item next, given a summary of the user's "
            f"preferences and the most recent items ([LLM-TRSR]({PAPER})). The score of a "
            "candidate is the log-odds of the answer yes.\n\n"
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
