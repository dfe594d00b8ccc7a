"""From arms to command lines, with work that several arms share done once."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trec_cli.core.runs import RunFolder
from trec_cli.score.kinds import BLEND, EMBEDDING, LLM, SEQUENCE
from trec_cli.study.plan import Arm, Options, Study
from trec_cli.train.settings import against_base

_HASH = 8
COMMON = "common"
"""Folder of the second comparison, of all arms on the examples that each has answered."""
_EMBED = (EMBEDDING, SEQUENCE, BLEND)
"""Scorers that keep vectors."""


@dataclass(frozen=True)
class Step:
    """One command line.

    Attributes:
        stage: ``prepare``, ``summarize``, ``train`` or ``score``.
        arguments: of ``trec``, the stage first.
        output: file or folder that is there when it is done.
    """

    stage: str
    arguments: tuple[str, ...]
    output: Path


def steps_of(study: Study, out: Path) -> dict[str, list[Step]]:
    """Return the steps of every arm by its name; arms share equal steps.

    Prepared data, summaries and adapters lie in ``out/work`` under a hash of all the
    settings they depend on; scores in ``out/arms/NAME``.
    """
    return {arm.name: list(_steps(study, arm, out)) for arm in study.arms}


def scores_of(arm: Arm, out: Path) -> list[Path]:
    """Name the scores files of an arm."""
    if arm.scores is not None:
        return [Path(arm.scores)]
    folder = RunFolder(out / "arms" / arm.name)
    return [folder.scores(system) for system in arm.systems()]


def data_of(study: Study, arm: Arm, out: Path) -> RunFolder:
    """Name the run folder with the data of an arm."""
    if study.run is not None:
        return RunFolder(Path(study.run))
    key = _key("prepare", study.source, arm.tables["prepare"])
    return RunFolder(out / "work" / f"prepare-{key}")


def _steps(study: Study, arm: Arm, out: Path) -> Iterator[Step]:
    data = data_of(study, arm, out)
    if study.source is not None:
        prepare = ("prepare", study.source, "--out", str(data.path))
        yield Step("prepare", (*prepare, *_options(arm.tables["prepare"])), data.examples)
    if arm.scores is not None:
        return
    if arm.scorer != LLM:
        for seed, scores in zip(arm.systems().values(), scores_of(arm, out), strict=True):
            how = ["--scorer", arm.scorer, "--seed", str(seed)]
            yield _score(arm, data, scores, [*how, *_store(arm, out)])
        return
    texts = ["--mode", arm.mode]
    parents = [data.path.name]
    if arm.summaries is not None:
        parents.append(arm.summaries)
        texts += ["--summaries", arm.summaries]
    if arm.summarized:
        summarize = _summarize(arm, data, out)
        parents.append(summarize.output.parent.name)
        texts += ["--summaries", str(summarize.output)]
        yield summarize
    for seed, scores in zip(arm.systems().values(), scores_of(arm, out), strict=True):
        if arm.trained:
            train = _train(arm, data, out, texts, parents, seed)
            yield train
            how = ["--adapter", str(train.output)]
        else:
            how = ["--zero-shot", *_options(arm.tables["prompt"])]
        yield _score(arm, data, scores, [*texts, *how, *_store(arm, out)])


def _store(arm: Arm, out: Path) -> list[str]:
    """Return the option of arms that keep what a model has made: where all of the study's is."""
    keeps = arm.scorer in _EMBED
    if arm.scorer == LLM:
        here = arm.tables["score"].get("engine", "local") == "local"
        keeps = here and arm.tables["prompt"].get("ask") == "text"
    return ["--store", str(RunFolder(out).store)] if keeps else []


def _summarize(arm: Arm, data: RunFolder, out: Path) -> Step:
    options = arm.tables["summarize"]
    key = _key(data.path.name, arm.mode, options)
    output = RunFolder(out / "work" / f"summarize-{key}").summaries(arm.mode)
    store = RunFolder(out).store
    arguments = ("summarize", str(data.path), "--mode", arm.mode, "--out", str(output))
    return Step("summarize", (*arguments, "--store", str(store), *_options(options)), output)


def _train(
    arm: Arm, data: RunFolder, out: Path, texts: Sequence[str], parents: Sequence[str], seed: int
) -> Step:
    options = {**arm.tables["prompt"], **arm.tables["train"]}
    key = _key(*parents, arm.mode, options, seed)
    output = RunFolder(out / "work" / f"train-{key}").adapter(arm.mode)
    arguments = ("train", str(data.path), *texts, "--out", str(output), "--seed", str(seed))
    if against_base(str(options.get("ask")), str(options.get("loss"))):
        arguments += ("--store", str(RunFolder(out).store))
    return Step("train", (*arguments, *_options(options)), output)


def _score(arm: Arm, data: RunFolder, scores: Path, how: Sequence[str]) -> Step:
    arguments = ("score", str(data.path), *how, "--out", str(scores))
    return Step("score", (*arguments, *_options(arm.tables["score"])), scores)


def _options(table: Options) -> list[str]:
    """Write settings as options: true is a flag, false its opposite, a list several times."""
    words: list[str] = []
    for name, value in table.items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(one)]
    return words


def evaluation_arguments(
    study: Study, out: Path, scores: Sequence[Path], reference: Arm, *, common: bool = False
) -> list[str]:
    """Write the command that compares the arms; ``common`` on what all of them have answered."""
    files = [word for path in scores for word in ("--scores", str(path))]
    data = data_of(study, reference, out)
    # Not as RUN: summaries and training logs lie elsewhere, and are found from the scores.
    known = ["--items", str(data.items), "--examples", str(data.examples)]
    to = out / COMMON if common else out
    table = ["--out", str(to), "--markdown", str(to / "table.md"), *(["--common"] * common)]
    table += ["--latex", str(to / "table.tex"), "--csv", str(to / "table.csv")]
    table += ["--reference", reference.name, "--title", study.title]
    return ["eval", *known, *files, *table, *_options(study.evaluation)]


def _key(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH]
