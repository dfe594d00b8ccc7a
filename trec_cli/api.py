"""The stages as Python functions, for notebooks and scripts.

    from trec_cli import api

    api.prepare(api.PrepareOptions(source=Path("samples/shop"), out=run))
    api.score(api.ScoreOptions(scorer="bm25", asked=api.Asked(run=run)))
    api.evaluate(api.EvalOptions(run=run))

Each takes the settings object that its command is made from, does what the command does (it
continues what was stopped and leaves alone what is finished), and returns records.  The
module is called ``api`` because ``trec_cli.prepare`` and its like are the packages behind
the functions.  torch is imported when a function needs it, not before.
"""

from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.options import differing
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.records import Example, Item, Scores, Summary
from trec_cli.evaluate.settings import EvalOptions
from trec_cli.models.source import ModelSource
from trec_cli.prepare.collection import ReadOptions
from trec_cli.prepare.settings import Choices, PrepareOptions
from trec_cli.prompts.settings import PromptSettings
from trec_cli.recommend.options import RecommendOptions
from trec_cli.score.options import Asked, LlmOptions, ScoreOptions
from trec_cli.summarize.settings import SummarizeOptions
from trec_cli.train.settings import LoraSettings, TrainOptions, TrainSettings

__all__ = [
    "Asked",
    "Choices",
    "EvalOptions",
    "LlmOptions",
    "LoraSettings",
    "ModelSource",
    "PrepareOptions",
    "PromptSettings",
    "ReadOptions",
    "RecommendOptions",
    "ScoreOptions",
    "SummarizeOptions",
    "TrainOptions",
    "TrainSettings",
    "evaluate",
    "merge",
    "prepare",
    "recommend",
    "score",
    "summarize",
    "train",
]


def prepare(
    options: PrepareOptions, *, overwrite: bool = False, progress: Progress | None = None
) -> tuple[dict[str, Item], list[Example]]:
    """Write items and examples and return both, the items by id.

    Args:
        options: those of ``trec prepare``.
        overwrite: replace what was made with other settings.
        progress: where messages and bars go; nowhere by default.

    Raises:
        TrecError: what the command would end with.
    """
    from trec_cli.core.jsonl import read_examples, read_items
    from trec_cli.prepare.job import opened

    with opened(options, differing(options), progress or Silent()) as job:
        job.write(overwrite=overwrite)
    items = read_items(job.run.items)
    return items, read_examples(job.run.examples, items)


def summarize(
    options: SummarizeOptions, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Summary]:
    """Write preference summaries and return them by ``example_id``.

    Args and errors are those of :func:`prepare`.
    """
    from trec_cli.core.jsonl import read_summaries
    from trec_cli.summarize.job import make_job

    options.check(differing(options))
    progress = progress or Silent()
    if options.engine == "ray" and options.mode != "none":
        from trec_cli.cluster.on_ray import run_on_ray

        return read_summaries(
            run_on_ray(options, differing(options), progress, overwrite=overwrite)[0]
        )
    job = make_job(options, progress)
    job.run(overwrite=overwrite)
    return read_summaries(job.files.out)


def train(
    options: TrainOptions, *, overwrite: bool = False, progress: Progress | None = None
) -> Path:
    """Train an adapter and return its folder, with log and model card.

    Args and errors are those of :func:`prepare`.
    """
    from trec_cli.models.processes import Processes
    from trec_cli.train.job import TrainingJob
    from trec_cli.train.lora import check_quantization

    options.check(differing(options))
    check_quantization(options.training.quantize)
    job = TrainingJob(options, Processes.here(), progress or Silent())
    job.run(overwrite=overwrite)
    return job.files.out


def score(
    options: ScoreOptions, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Scores]:
    """Score every candidate and return the scores by ``example_id``.

    Args and errors are those of :func:`prepare`.
    """
    from trec_cli.core.jsonl import read_lines
    from trec_cli.score.kinds import kind_of
    from trec_cli.score.writing import write_scores

    options.check()
    progress = progress or Silent()
    if options.scorer == "llm" and options.llm.engine == "ray":
        from trec_cli.cluster.on_ray import run_on_ray

        out, _ = run_on_ray(options, differing(options), progress, overwrite=overwrite)
    else:
        job = kind_of(options).make(options, differing(options), progress)
        out = options.out_file(job.system)
        with job.running(out):
            write_scores(job, out, progress, overwrite=overwrite)
    records = read_lines(out, msgspec.json.Decoder(Scores).decode)
    return {record.example_id: record for _, record in records}


def merge(out: Path, *, overwrite: bool = False) -> int | None:
    """Write an output from its shards; return their number, None where it was there already.

    Args and errors are those of :func:`prepare`.
    """
    from trec_cli.cluster.merge import merge as put_together

    return put_together(out, overwrite=overwrite)


def evaluate(
    options: EvalOptions, *, overwrite: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Compare scores files and return what `metrics.json` holds.

    ``result["systems"][NAME]["mrr@10"]`` is a dictionary of ``value``, ``low`` and ``high``.
    With ``options.exposure`` it is what `exposure.json` holds.  Args and errors are those of
    :func:`prepare`.
    """
    if options.exposure is not None:
        from trec_cli.evaluate.exposure_log import ExposureJob

        options.check()
        job = ExposureJob(options, options.exposure)
        return job.run(progress or Silent(), overwrite=overwrite)[0]
    from trec_cli.audit.evaluation import audit_systems
    from trec_cli.evaluate.job import EvalJob

    summary, _ = EvalJob(options, progress or Silent()).run(audit_systems, overwrite=overwrite)
    return summary


def recommend(
    options: RecommendOptions, *, overwrite: bool = False, progress: Progress | None = None
) -> Path:
    """Write the best items of the whole catalogue for every user; return the file.

    It is JSONL, CSV or Parquet, as its name says.  Args and errors are those of
    :func:`prepare`.
    """
    from trec_cli.recommend.run import RecommendTask
    from trec_cli.recommend.run import recommend as make

    options.check(differing(options))
    make(RecommendTask.read(options), progress or Silent(), overwrite=overwrite)
    return options.out_file
