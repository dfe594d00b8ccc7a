"""A small study for the tests, and a way to run its commands in this process."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from trec_cli.commands.app import app
from trec_cli.study.launch import Ending

SHOP = Path(__file__).resolve().parents[2] / "samples" / "shop"

BASE = f"""
source = "{SHOP}"
reference = "popularity"
metric = "recall@3"

[prepare]
min-history = 5
train-users = "40"
valid-users = "5"
test-users = "20"

[eval]
bootstrap = 50
permutations = 100
report = false
"""
ARMS = """
[[arm]]
name = "popularity"
scorer = "popularity"

[[arm]]
name = "bm25"
scorer = "bm25"
"""


def write_study(folder: Path, arms: str = ARMS, base: str = BASE) -> Path:
    """Write a study file."""
    path = folder / "study.toml"
    path.write_text(base + arms, encoding="utf-8")
    return path


def invoke(*arguments: object) -> Result:
    """Run ``trec`` in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))


class Here:
    """A crew that runs commands in this process, one after another, and remembers them.

    ``instead`` may end a command in its place.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._ended: list[tuple[str, Ending]] = []
        self.size = 1
        self.stages: list[str] = []
        self.instead: Callable[[list[str]], Ending | None] = lambda _: None
        monkeypatch.setattr("trec_cli.study.launch.Crew", self._hire)

    def _hire(self, size: int, **_: Any) -> "Here":
        self.size = size
        return self

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Run a command."""
        words = list(arguments)
        self.stages.append(words[0])
        self._ended.append((name, self.instead(words) or self._run(words)))

    def wait(self) -> tuple[str, Ending]:
        """Tell how the first of those that have ended did."""
        return self._ended.pop(0)

    def _run(self, words: list[str]) -> Ending:
        with self._patch.context() as patch:
            patch.setattr(sys, "argv", ["trec", *words])
            result = invoke(*words)
        return Ending(result.exit_code, result.stderr.strip())
