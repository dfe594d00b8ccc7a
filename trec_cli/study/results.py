"""`study.json` and `figure.svg`: what a study found, arm by arm."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.evaluation.results import Summary
from trec_cli.outputs import write_bytes
from trec_cli.study.figure import Mark, draw
from trec_cli.study.plan import Arm, Study
from trec_cli.study.runner import Outcome
from trec_cli.study.steps import Step


def write_results(
    study: Study,
    steps: Mapping[str, list[Step]],
    outcome: Outcome,
    summary: Summary | None,
    out: Path,
) -> list[Path]:
    """Write both files and name them; without ``summary`` (no arm has scores) no figure."""
    record = {
        "title": study.title,
        "study": str(study.path),
        "setting": study.setting,
        "reference": study.reference,
        "arms": [_entry(arm, steps[arm.name], outcome, summary) for arm in study.arms],
        "comparisons": summary["comparisons"] if summary else [],
    }
    body = msgspec.json.format(msgspec.json.encode(record), indent=2)
    files = [out / "study.json"]
    write_bytes(files[0], [body, b"\n"])
    if summary and study.metric in summary["chance"]:
        files.append(out / "figure.svg")
        write_bytes(files[1], [figure(study, summary).encode()])
    return files


def _entry(
    arm: Arm, steps: list[Step], outcome: Outcome, summary: Summary | None
) -> dict[str, Any]:
    failure = outcome.failed.get(arm.name)
    systems = (summary or {}).get("systems", {})
    return {
        "name": arm.name,
        "group": arm.group,
        "value": arm.value,
        "state": "failed" if failure else "done",
        "failure": asdict(failure) if failure else None,
        "seconds": outcome.seconds.get(arm.name, 0.0),
        "commands": [["trec", *step.arguments] for step in steps],
        "systems": {name: systems[name] for name in _systems(arm, systems)},
    }


def _systems(arm: Arm, systems: Mapping[str, Any]) -> list[str]:
    """Name an arm's systems in the evaluation: pooled over seeds, or one per seed."""
    return [name for name in (arm.name, *arm.systems()) if name in systems][: len(arm.seeds)]


def figure(study: Study, summary: Summary) -> str:
    """Draw the study's metric: over the varied setting where it is a number, else by arm."""
    marks = [
        Mark(arm.group, arm.name if len(names) == 1 else name, arm.value, *_numbers(entry))
        for arm in study.arms
        for names in [_systems(arm, summary["systems"])]
        for name in names
        for entry in [summary["systems"][name][study.metric]]
    ]
    return draw(study.title, study.metric, study.setting, marks, summary["chance"][study.metric])


def _numbers(entry: Mapping[str, float | None]) -> tuple[float, float, float]:
    value = entry["value"] or 0.0
    low, high = entry["low"], entry["high"]
    return value, value if low is None else low, value if high is None else high
