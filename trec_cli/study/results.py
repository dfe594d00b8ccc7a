"""`study.json` and `figure.svg`: what a study found, arm by arm."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.manifest import Provenance, recorded_settings
from trec_cli.core.outputs import write_bytes
from trec_cli.core.runs import RunFolder
from trec_cli.evaluate.results import Summary
from trec_cli.study.figure import Mark, draw
from trec_cli.study.plan import Arm, Study
from trec_cli.study.runner import StudyOutcome
from trec_cli.study.steps import Step


def write_results(
    study: Study,
    steps: Mapping[str, list[Step]],
    outcome: StudyOutcome,
    summary: Summary | None,
    out: Path,
    common: Summary | None = None,
) -> list[Path]:
    """Write both files and name them; without ``summary`` (no arm has scores) no figure.

    ``common`` has the arms of a smaller ``score.limit``, and all others on their examples.
    """
    record = {
        "title": study.title,
        "study": str(study.path),
        "setting": study.setting,
        "reference": study.reference,
        "arms": [_entry(arm, steps[arm.name], outcome, summary, common) for arm in study.arms],
        "comparisons": summary["comparisons"] if summary else [],
    }
    body = msgspec.json.format(msgspec.json.encode(record), indent=2)
    contents = {out / "study.json": [body, b"\n"]}
    if summary and (drawn := figure(study, summary)):
        contents[out / "figure.svg"] = [drawn.encode()]
    made_from = [study.path, *([RunFolder(out).metrics] if summary else [])]
    with Provenance("eval", {"study": study.title}, made_from).publish(*contents):
        for file, content in contents.items():
            write_bytes(file, content)
    return list(contents)


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds results which no study has written.

    Raises:
        SettingsChanged: naming one, and not ``overwrite``.
    """
    if overwrite:
        return
    folder = RunFolder(out)
    compared = [folder.metrics, folder.per_user, folder.report, out / "table.md"]
    tables = (out / "table.tex", out / "table.csv")
    for path in (out / "study.json", out / "figure.svg", *compared, *tables):
        if path.exists() and recorded_settings(path) is None:
            raise SettingsChanged(path, ["it has no manifest, so they are unknown"])
    if folder.metrics.exists() and not (out / "arms").is_dir():
        raise SettingsChanged(folder.metrics, ["it compares what is no study's"])


def _entry(
    arm: Arm,
    steps: list[Step],
    outcome: StudyOutcome,
    summary: Summary | None,
    common: Summary | None,
) -> dict[str, Any]:
    failure = outcome.failed.get(arm.name)
    systems, fewer = ((found or {}).get("systems", {}) for found in (summary, common))
    more = {"common": {name: fewer[name] for name in _systems(arm, fewer)}} if fewer else {}
    return {
        "name": arm.name,
        "group": arm.group,
        "value": arm.value,
        "state": "failed" if failure else "done",
        "failure": asdict(failure) if failure else None,
        "seconds": outcome.seconds.get(arm.name, 0.0),
        "commands": [["trec", *step.arguments] for step in steps],
        "systems": {name: systems[name] for name in _systems(arm, systems)},
        **more,
    }


def _systems(arm: Arm, systems: Mapping[str, Any]) -> list[str]:
    """Name an arm's systems in the evaluation: pooled over seeds, or one per seed."""
    return [name for name in (arm.name, *arm.systems()) if name in systems][: len(arm.seeds)]


def figure(study: Study, summary: Summary) -> str:
    """Draw the study's metric: over the varied setting where it is a number, else by arm.

    Empty where no arm has a value of it (AUC where nobody has a negative).
    """
    marks = [
        Mark(arm.group, arm.name if len(names) == 1 else name, arm.value, *numbers)
        for arm in study.arms
        for names in [_systems(arm, summary["systems"])]
        for name in names
        if (numbers := _numbers(summary["systems"][name][study.metric]))
    ]
    chance = summary["chance"][study.metric]
    if not marks or chance is None:
        return ""
    return draw(study.title, study.metric, study.setting, marks, chance)


def _numbers(entry: Mapping[str, float | None]) -> tuple[float, float, float] | None:
    """Return value, low and high; without an interval all three are the value."""
    value, low, high = entry["value"], entry["low"], entry["high"]
    if value is None:
        return None
    return value, value if low is None else low, value if high is None else high
