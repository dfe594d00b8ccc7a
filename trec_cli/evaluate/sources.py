"""What a RUN folder holds besides scores, for the report; every part of it may be absent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import read_lines
from trec_cli.core.manifest import read_manifest
from trec_cli.core.records import SPLITS
from trec_cli.core.runs import NO_USER_SUFFIX, TRAINING_LOG, RunFolder, system_name, told_apart
from trec_cli.evaluate.background import AskedLine, read_example_lines


@dataclass(frozen=True)
class Sources:
    """Files that explain the numbers.

    Attributes:
        items: the catalogue, for titles.
        examples: for slices, and for the histories of single users.
        summaries: by mode; without RUN by system.
        logs: training logs by adapter (the mode, and what else its name says), likewise.
        explained: outputs whose manifests say how they were made.
        labels: what they are called on the page: by arms, not by the folders of a study.
        recommendations: lists of recommended items, by system.
        blind: scores that were given without users, of any split.
        store: where vectors of items may be saved.
    """

    items: Path | None = None
    examples: Path | None = None
    summaries: dict[str, Path] = field(default_factory=dict)
    logs: dict[str, Path] = field(default_factory=dict)
    explained: list[Path] = field(default_factory=list)
    recommendations: dict[str, Path] = field(default_factory=dict)
    blind: list[Path] = field(default_factory=list)
    store: Path | None = None
    labels: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        run: Path | None,
        items: Path | None,
        examples: Path | None,
        scores: list[Path],
        out: Path | None = None,
    ) -> "Sources":
        """Take the files that were named, and those of RUN that exist.

        Without RUN, as in a study, the scores' manifests tell what they were made with, and
        vectors are looked for in ``out``.
        """
        found = cls._found(run, items, examples, scores)
        home = run or out
        near = [] if run is None else RunFolder(run).all_scores()
        blind = _blind(dict.fromkeys([*scores, *near]))
        store = _existing(RunFolder(home).store) if home else None
        return replace(found, blind=blind, store=store, labels=found.labelled(scores))

    def labelled(self, scores: Sequence[Path]) -> dict[Path, str]:
        """Name every file by what it is and whose: ``summaries hier``, ``scores bm25``."""
        systems = told_apart(list(map(system_name, scores)), scores)
        kinds: dict[str, Mapping[str, Path]] = {
            "summaries": self.summaries,
            "adapter": {name: log.parent for name, log in self.logs.items()},
            "scores": dict(zip(systems, scores, strict=True)),
            "recommendations": self.recommendations,
        }
        named = [("items", self.items), ("examples", self.examples)]
        labels = {path: name for name, path in named if path}
        for kind, files in kinds.items():
            labels |= {path: f"{kind} {name}" for name, path in files.items()}
        return labels

    @classmethod
    def _found(
        cls, run: Path | None, items: Path | None, examples: Path | None, scores: list[Path]
    ) -> "Sources":
        if run is None:
            texts, adapters = _behind(scores)
            logs = {name: folder / TRAINING_LOG for name, folder in adapters.items()}
            made = [*texts.values(), *adapters.values(), *scores]
            return cls(items, examples, texts, logs, made)
        folder = RunFolder(run)
        summaries = folder.all_summaries()
        models = folder.adapters()
        offered = folder.all_recommendations()
        outputs = [*summaries.values(), *models.values(), *scores, *offered.values()]
        made = [folder.items, folder.examples, *outputs]
        return cls(
            items or _existing(folder.items),
            examples or _existing(folder.examples),
            summaries,
            {name: model / TRAINING_LOG for name, model in models.items()},
            [path for path in made if path.exists()],
            offered,
        )

    def files(self) -> list[Path]:
        """Return every file that the report is made from."""
        named = [path for path in (self.items, self.examples) if path]
        found = (self.summaries, self.logs, self.recommendations)
        return [*named, *(path for paths in found for path in paths.values())]

    def catalogue_size(self) -> int:
        """Count the items of the catalogue.

        Raises:
            UsageError: there is no items file.
        """
        if self.items is None:
            raise UsageError(
                "the size of the catalogue is not known: name items.jsonl with --items, or give "
                "every line of the scores its catalogue"
            )
        return sum(1 for _ in read_lines(self.items, msgspec.json.Decoder(msgspec.Raw).decode))

    def candidates(self) -> str | None:
        """Return how candidates were made, as the manifest of the examples has it."""
        manifest = read_manifest(self.examples) if self.examples else None
        choices = (manifest or {}).get("counts", {}).get("choices")
        if not isinstance(choices, dict):
            return None
        made = choices.get("candidates") or choices.get("negatives")
        return None if made is None else str(made)

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Read the manifests there are, by the name of the output they speak of."""
        told = told_apart([path.name for path in self.explained], self.explained)
        names = [self.labels.get(p, name) for p, name in zip(self.explained, told, strict=True)]
        found = zip(names, map(read_manifest, self.explained), strict=True)
        return {name: manifest for name, manifest in found if manifest}

    def asked(self, wanted: Collection[str]) -> dict[str, AskedLine]:
        """Read some examples by their id; empty without examples file."""
        if self.examples is None:
            return {}
        lines = read_example_lines(self.examples, AskedLine)
        return {line.example: line for line in lines if line.example in wanted}

    def training(self) -> dict[str, list[dict[str, Any]]]:
        """Read the training logs by mode, one dictionary per logged step."""
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        return {
            mode: [entry for _, entry in read_lines(path, decode, allow_empty=True)]
            for mode, path in self.logs.items()
        }


def _blind(files: Iterable[Path]) -> list[Path]:
    """Return those files of scores that were given without users."""
    return [path for path in files if without_split(path).endswith(NO_USER_SUFFIX)]


def without_split(scores: Path) -> str:
    """Name the system of a file of scores, without seed and split.

    ``scores-hier@2-valid.jsonl`` is of ``hier``.
    """
    name = system_name(scores)
    end = next((f"-{split}" for split in SPLITS if name.endswith(f"-{split}")), "")
    system, _, seed = name.removesuffix(end).partition("@")
    return system if not seed or seed.isdigit() else name


def _behind(scores: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Find the summaries and the adapters with which scores were made, as far as they exist.

    Each is named by the first system that it served.
    """
    texts, adapters = dict[Path, str](), dict[Path, str]()
    systems = told_apart(list(map(system_name, scores)), scores)
    for system, path in zip(systems, scores, strict=True):
        for file in map(Path, (read_manifest(path) or {}).get("inputs", ())):
            if file.name == "adapter_config.json" and (file.parent / TRAINING_LOG).is_file():
                adapters.setdefault(file.parent, system)
            elif file.is_file() and (read_manifest(file) or {}).get("command") == "summarize":
                texts.setdefault(file, system)
    return _by_name(texts), _by_name(adapters)


def _by_name(systems: Mapping[Path, str]) -> dict[str, Path]:
    return {system: path for path, system in systems.items()}


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
