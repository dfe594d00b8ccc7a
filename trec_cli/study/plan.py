"""A study file: base settings, and the arms that differ from them."""

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Mode
from trec_cli.evaluate.metrics import metric_names
from trec_cli.evaluate.settings import DEFAULT_KS
from trec_cli.score.kinds import RECBOLE, SEQUENCE, check_scorer, foreign

Value = str | int | float | bool | list[str | int | float]
Options = dict[str, Value]
Seed = Annotated[int, msgspec.Meta(ge=0)]

STAGES = ("prepare", "summarize", "prompt", "train", "score")
"""Tables of settings; ``prompt`` is for train and for score without an adapter."""

_SETTING = rf"^({'|'.join(STAGES)})\.[\w-]+$"
_NAME = r"^(?!chance$)[\w+-][\w.+-]*$"
"""Of an arm: a part of file names, and not the name of a row of every table."""
_DRAWS = ("random", SEQUENCE, RECBOLE)
"""Scorers whose result depends on the seed."""
_MODEL_ONLY = ("summarize", "prompt", "train")
_ALWAYS_OURS = {
    "config",
    "debug",
    "dry-run",
    "items",
    "examples",
    "json",
    "out",
    "overwrite",
    "quiet",
}
_OURS: dict[str, set[str]] = {
    "prepare": set(),
    "summarize": {"mode", "show"},
    "prompt": {"mode", "seed"},
    "train": {"mode", "seed", "summaries"},
    "score": {"mode", "scorer", "seed", "summaries", "adapter", "zero-shot", "no-zero-shot"},
    "eval": {
        "arm", "common", "csv", "jobs", "latex", "markdown", "reference", "scores", "set",
        "study", "title",
        "verify",
    },
}  # fmt: skip
"""Options that the study itself gives to a command; another value would belie the arm's name."""


class _Tables(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """Settings by stage, as options of the commands without their dashes."""

    model: str | None = None
    prepare: Options = {}
    summarize: Options = {}
    prompt: Options = {}
    train: Options = {}
    score: Options = {}


class ArmTable(_Tables, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """One ``[[arm]]`` of a study file; its tables are laid over those of the study.

    ``summaries`` names a file of summaries made elsewhere; without ``mode`` the arm's name is
    their mode.  ``scores`` names a file of scores made elsewhere, ``scores-NAME.jsonl``.
    """

    name: Annotated[str, msgspec.Meta(pattern=_NAME)]
    mode: Mode = "none"
    summaries: str | None = None
    scores: str | None = None
    scorer: str = "llm"
    zero_shot: bool = False


class Vary(msgspec.Struct, forbid_unknown_fields=True):
    """``[vary]``: every arm that ``setting`` matters to is run once per value."""

    setting: Annotated[str, msgspec.Meta(pattern=_SETTING)]
    values: Annotated[list[str | int | float | bool], msgspec.Meta(min_length=1)]


class StudyFile(_Tables, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """The content of a study file."""

    source: str | None = None
    run: str | None = None
    title: str = ""
    reference: str | None = None
    metric: str = "mrr@10"
    seeds: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)] = (
        msgspec.field(default_factory=lambda: [0])
    )
    eval: Options = {}
    vary: Vary | None = None
    arm: Annotated[list[ArmTable], msgspec.Meta(min_length=1)]


class Arm(msgspec.Struct, frozen=True):
    """One arm with all its settings.

    Attributes:
        name: of its system in every table.
        group: name of the arm table that it comes from.
        value: of the varied setting; None where that does not matter to it.
        tables: settings by stage, those of the study included.
        seeds: one run each; a scorer without random draws has one.
        summaries: file of summaries made elsewhere; None where the study makes them.
        scores: file of scores made elsewhere; None where the study makes them.
    """

    name: str
    group: str
    value: Any
    mode: str
    scorer: str
    zero_shot: bool
    tables: dict[str, Options]
    seeds: list[int]
    summaries: str | None = None
    scores: str | None = None

    @property
    def trained(self) -> bool:
        """Whether it trains an adapter."""
        return self.scorer == "llm" and not self.zero_shot and self.scores is None

    @property
    def summarized(self) -> bool:
        """Whether summaries are made for it."""
        return self.scorer == "llm" and self.mode != "none" and self.summaries is None

    def systems(self) -> dict[str, int]:
        """Name its systems, with their seeds: NAME, or NAME@SEED where there are several."""
        if len(self.seeds) == 1:
            return {self.name: self.seeds[0]}
        return {f"{self.name}@{seed}": seed for seed in self.seeds}


class Study(msgspec.Struct, frozen=True):
    """A study that can be run.

    Attributes:
        path: of its file.
        title: in the figure.
        source: collection to prepare; None where ``run`` holds what is asked.
        reference: name of the arm that all others are compared with.
        metric: of the figure.
        setting: that varies, like ``prompt.recent``, or None.
        evaluation: options of ``trec eval``.
        run: folder with items and examples that were made elsewhere, in place of a source.
    """

    path: Path
    title: str
    source: str | None
    reference: str
    metric: str
    setting: str | None
    evaluation: Options
    arms: list[Arm]
    run: str | None = None

    @property
    def widest(self) -> list[Arm]:
        """The arms that answer most examples; the others have a smaller ``score.limit``."""
        most = max(map(_limit, self.arms))
        return [arm for arm in self.arms if _limit(arm) == most]


def _limit(arm: Arm) -> float:
    """Return how many examples an arm answers at most."""
    limit = arm.tables["score"].get("limit", math.inf)
    return float(limit) if isinstance(limit, int | float) else math.inf


def read_study(path: Path, changes: Sequence[str] = (), only: Sequence[str] = ()) -> Study:
    """Read a study file.

    Args:
        path: of the file.
        changes: ``KEY=VALUE`` that replace its settings.
        only: names of the arms wanted (of an arm table: with all values that vary); none
            means all.

    Raises:
        InputError: the file is not there, not TOML, or says something impossible.
        UsageError: a change cannot be read, a variable that the file names is not set, or
            an arm is not there.
    """
    content = _read(path)
    for change in changes:
        _apply(content, change)
    try:
        file = msgspec.convert(_with_variables(content), StudyFile)
    except msgspec.ValidationError as error:
        raise InputError.of(path, str(error), "see docs/studies.md for the settings") from None
    arms = [arm for table in file.arm for arm in _expand(file, table)]
    _check(path, file, arms)
    reference = file.reference or arms[0].name
    if only:
        arms = _choose(arms, only, reference)
    return Study(
        path=path,
        title=file.title or path.stem,
        source=file.source,
        reference=reference,
        metric=file.metric,
        setting=file.vary.setting if file.vary else None,
        evaluation=file.eval,
        arms=arms,
        run=file.run,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError.of(path, "no such file", "check the name of the study") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError.of(path, f"is not TOML: {error}", "repair it") from None
    except OSError as error:
        raise InputError.of(path, f"cannot be read: {error.strerror}") from None


def _apply(content: dict[str, Any], change: str) -> None:
    """Set ``prepare.test-users=50``; the value is TOML, or else text."""
    key, separator, text = change.partition("=")
    *tables, name = key.strip().split(".")
    if not separator or not name:
        raise UsageError(f"--set {change}: write KEY=VALUE, for example train.epochs=1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise UsageError(f"--set {change}: {table} is no table of settings")
    content[name] = value


def _with_variables(value: Any) -> Any:
    """Expand environment variables in every text: ``$DATA/mind``."""
    if isinstance(value, dict):
        return {name: _with_variables(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_variables(inner) for inner in value]
    if not isinstance(value, str):
        return value
    full = os.path.expandvars(value)
    if missing := re.search(r"\$\w+|\$\{\w+\}", full):
        raise UsageError(f"the study names {missing[0]}, which is not set; export it, or use --set")
    return full


def _expand(file: StudyFile, table: ArmTable) -> list[Arm]:
    """Make one arm, or one per value of the setting that varies."""
    vary = file.vary
    if vary is None or not _matters(vary.setting, table):
        return [_arm(file, table, table.name, None, {})]
    stage, option = vary.setting.split(".")
    return [
        _arm(file, table, f"{table.name}-{option}-{_short(value)}", value, {stage: {option: value}})
        for value in vary.values
    ]


def _matters(setting: str, table: ArmTable) -> bool:
    """Check whether a setting can change an arm's scores."""
    stage = setting.split(".")[0]
    if table.scorer != "llm":
        return stage not in _MODEL_ONLY
    if stage == "summarize":
        return table.mode != "none" and table.summaries is None
    return not (stage == "train" and table.zero_shot)


def _short(value: Any) -> str:
    """Write a value as part of a name: of a path, its last folder."""
    return re.sub(r"[^\w.+-]+", "-", Path(str(value)).name) or "none"


def _arm(
    file: StudyFile,
    table: ArmTable,
    name: str,
    value: Any,
    own: Mapping[str, Options],
) -> Arm:
    tables = {
        stage: {**getattr(file, stage), **getattr(table, stage), **own.get(stage, {})}
        for stage in STAGES
    }
    mine = {**table.score, **own.get("score", {})}
    for option in foreign(table.scorer, tables["score"]):
        if option not in mine:  # the study's, for other arms; this scorer would refuse it
            del tables["score"][option]
    model = table.model or file.model
    for stage in ("summarize", "train"):
        if model is not None:
            tables[stage].setdefault("model", model)
    if table.zero_shot and model is not None:
        tables["score"].setdefault("model", model)
    trained = table.scorer == "llm" and not table.zero_shot and table.scores is None
    drawn = trained or table.scorer.startswith(_DRAWS)
    return Arm(
        name=name,
        group=table.name,
        value=value,
        mode=table.name if table.summaries and table.mode == "none" else table.mode,
        scorer=table.scorer,
        zero_shot=table.zero_shot,
        tables=tables,
        seeds=file.seeds if drawn else file.seeds[:1],
        summaries=table.summaries,
        scores=table.scores,
    )


def _check_source(path: Path, file: StudyFile, arms: Sequence[Arm]) -> None:
    """Refuse two sources or none, and settings of a preparation that does not take place."""
    if (file.source is None) == (file.run is None):
        what = "names neither source nor run" if file.source is None else "names source and run"
        raise InputError.of(path, what, "give one: what trec prepare reads, or a run folder")
    if file.run is not None and any(arm.tables["prepare"] for arm in arms):
        raise InputError.of(path, "run has been prepared already", "leave [prepare] out")


def _check(path: Path, file: StudyFile, arms: Sequence[Arm]) -> None:
    _check_source(path, file, arms)
    names = [arm.name for arm in arms]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError.of(path, f"two arms are called {twice[0]!r}", "give them other names")
    if file.reference is not None and file.reference not in names:
        there = ", ".join(names)
        raise InputError.of(path, f"reference {file.reference!r} is no arm", f"use one of {there}")
    if len(set(file.seeds)) < len(file.seeds):
        raise InputError.of(path, "a seed stands twice in seeds", "give each once")
    for arm in arms:
        for stage, table in arm.tables.items():
            _check_table(path, stage, table, f" (arm {arm.name})")
        check_scorer(arm.scorer)
        for option in foreign(arm.scorer, arm.tables["score"]):
            what = f"score.{option} (arm {arm.name}) is not for scorer {arm.scorer}"
            raise InputError.of(path, what, "leave it out")
        _check_summaries(path, arm)
        _check_scores(path, arm)
    _check_table(path, "eval", file.eval, "")
    _check_evaluation(path, file, arms)
    _check_reference(path, file, arms)


def _check_reference(path: Path, file: StudyFile, arms: Sequence[Arm]) -> None:
    """Refuse a reference that answers fewer examples than the arms it is compared with."""
    limits = {arm.name: _limit(arm) for arm in arms}
    reference = file.reference or arms[0].name
    if limits[reference] < max(limits.values()):
        what = f"the reference {reference} has a smaller score.limit than other arms"
        raise InputError.of(path, what, "choose a reference without one")


def _check_summaries(path: Path, arm: Arm) -> None:
    """Refuse summaries that are not there, or that the arm would not read."""
    if arm.summaries is None:
        return
    if arm.scorer != "llm":
        fix = "leave them out, or choose scorer llm"
        raise InputError.of(path, f"summaries (arm {arm.name}) are not for {arm.scorer}", fix)
    if not Path(arm.summaries).is_file():
        there = f"summaries (arm {arm.name}): no such file {arm.summaries}"
        raise InputError.of(path, there, "a path is taken from where the study is run")


def _check_scores(path: Path, arm: Arm) -> None:
    """Refuse scores that are not there, or that the tables would call otherwise."""
    if arm.scores is None:
        return
    if Path(arm.scores).name != f"scores-{arm.name}.jsonl":
        what = f"scores (arm {arm.name}): the file is called {Path(arm.scores).name}"
        raise InputError.of(path, what, f"call it scores-{arm.name}.jsonl")
    if not Path(arm.scores).is_file():
        what = f"scores (arm {arm.name}): no such file {arm.scores}"
        raise InputError.of(path, what, "a path is taken from where the study is run")


def _check_table(path: Path, stage: str, table: Options, where: str) -> None:
    """Refuse options that the study gives to the command itself."""
    ours = sorted((_ALWAYS_OURS | _OURS[stage]) & set(table))
    if ours:
        raise InputError.of(
            path, f"{stage}.{ours[0]}{where} is decided by the study itself", "leave it out"
        )


def _check_evaluation(path: Path, file: StudyFile, arms: Sequence[Arm]) -> None:
    """Refuse a metric that is not computed, and scores of another split than is evaluated."""
    given = file.eval.get("k", list(DEFAULT_KS))
    ks = [k for k in (given if isinstance(given, list) else [given]) if isinstance(k, int)]
    family: Any = file.eval.get("metrics", "standard")
    known = metric_names(sorted(ks), family)
    if file.metric not in known:
        raise InputError.of(
            path,
            f"metric {file.metric!r} is none of {', '.join(known)}",
            "choose one of them, or list the cut-offs as k in [eval]",
        )
    split = file.eval.get("split", "test")
    for arm in arms:
        scored = arm.tables["score"].get("split", "test")
        if scored != split:
            raise InputError.of(
                path,
                f"arm {arm.name} scores split {scored}, but {split} is evaluated",
                "give the same split in [score] and [eval]",
            )


def _choose(arms: Sequence[Arm], only: Sequence[str], reference: str) -> list[Arm]:
    """Keep the arms that are wanted, the one all are compared with among them."""
    known = list(dict.fromkeys(name for arm in arms for name in (arm.name, arm.group)))
    if unknown := sorted(set(only) - set(known)):
        raise UsageError(f"--arm {unknown[0]}: the study has no such arm; use {', '.join(known)}")
    chosen = [arm for arm in arms if {arm.name, arm.group} & set(only)]
    if reference not in {arm.name for arm in chosen}:
        raise UsageError(
            f"all arms are compared with {reference}: add --arm {reference}, "
            f"or --set reference={chosen[0].name}"
        )
    return chosen
