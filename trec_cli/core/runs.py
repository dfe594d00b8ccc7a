"""The RUN folder: which file of a stage has which name."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trec_cli.core.records import MODES

TRAINING_LOG = "training-log.jsonl"
"""The log in an adapter folder."""
NO_USER_SUFFIX = "-no-user"
"""Behind the name of a system that was asked without its users: ``hier-no-user``."""
LIFT_SUFFIX = "-lift"
"""Behind the name of a system whose scores without users are subtracted: ``hier-lift``."""


@dataclass(frozen=True)
class RunFolder:
    """A folder in which every stage finds its inputs by name."""

    path: Path

    @property
    def items(self) -> Path:
        """The catalogue."""
        return self.path / "items.jsonl"

    @property
    def examples(self) -> Path:
        """The examples of all splits."""
        return self.path / "examples.jsonl"

    @property
    def store(self) -> Path:
        """The store of everything an LLM has written for this run."""
        return self.path / "generations.sqlite"

    @property
    def metrics(self) -> Path:
        """Aggregate metrics of all systems."""
        return self.path / "metrics.json"

    @property
    def per_user(self) -> Path:
        """Metrics of every example and system."""
        return self.path / "per_user.jsonl"

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.path / "report.html"

    def summaries(self, mode: str) -> Path:
        """The summaries of a mode."""
        return self.path / f"summaries-{mode}.jsonl"

    def adapter(self, mode: str) -> Path:
        """The adapter folder of a mode."""
        return self.path / f"model-{mode}"

    def scores(self, name: str) -> Path:
        """The scores of a system."""
        return self.path / f"scores-{name}.jsonl"

    def recommendations(self, name: str) -> Path:
        """The recommendations of a system."""
        return self.path / f"recommendations-{name}.jsonl"

    def adapters(self) -> dict[str, Path]:
        """Every adapter folder with a training log, by what stands behind ``model-``."""
        logs = sorted(self.path.glob(f"model-*/{TRAINING_LOG}"))
        return {log.parent.name.removeprefix("model-"): log.parent for log in logs}

    def all_summaries(self) -> dict[str, Path]:
        """Find every summaries file in the folder, by mode: trec's own modes first."""
        files = sorted(file for file in self.path.glob("summaries-*.jsonl") if file.is_file())
        found = {file.name[len("summaries-") : -len(".jsonl")]: file for file in files}
        own: dict[str, Path] = {mode: found.pop(mode) for mode in MODES if mode in found}
        return {**own, **found}

    def all_recommendations(self) -> dict[str, Path]:
        """Find every file of recommendations in the folder, by name of the system."""
        files = sorted(p for p in self.path.glob("recommendations-*.jsonl") if p.is_file())
        return {file.name[len("recommendations-") : -len(".jsonl")]: file for file in files}

    def all_scores(self) -> list[Path]:
        """Every scores file in the folder, by name."""
        return sorted(p for p in self.path.glob("scores-*.jsonl") if p.is_file())


def system_name(scores: Path) -> str:
    """Name the system of a scores file: ``scores-hier.jsonl`` gives ``hier``."""
    return scores.name.removesuffix(".jsonl").removeprefix("scores-")


def told_apart(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Put the folder in front of the names that stand twice: ``one/hier``, ``two/hier``."""
    times = Counter(names)
    return [
        f"{path.resolve().parent.name}/{name}" if times[name] > 1 else name
        for name, path in zip(names, paths, strict=True)
    ]
