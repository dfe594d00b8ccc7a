"""A stage that can be cut into shards: its options for one of them, its output, its work."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from trec_cli.core.errors import UsageError
from trec_cli.core.progress import Progress
from trec_cli.core.shards import Shard
from trec_cli.models.processes import Processes
from trec_cli.score.options import ScoreOptions
from trec_cli.summarize.settings import SummarizeOptions

Options = TypeVar("Options", ScoreOptions, SummarizeOptions)


def of_shard(options: Options, shard: Shard) -> Options:
    """Return the options of a shard, computed where they are used."""
    if isinstance(options, ScoreOptions):
        engine = "local" if options.llm.engine == "ray" else options.llm.engine
        return replace(options, llm=replace(options.llm, shard=str(shard), engine=engine))
    engine = "local" if options.engine == "ray" else options.engine
    return replace(options, shard=str(shard), engine=engine)


def of_process(options: Options, processes: Processes) -> Options:
    """Return the options of one of several processes: its shard, on its own GPU.

    Raises:
        UsageError: the work cannot be cut, or is cut already.
    """
    scorer = options.scorer if isinstance(options, ScoreOptions) else "llm"
    given = options.llm.shard if isinstance(options, ScoreOptions) else options.shard
    if scorer != "llm":
        raise UsageError(f"--scorer {scorer} runs in one process: start it without a launcher")
    if given:
        raise UsageError(
            f"--shard {given}: {processes.count} processes share the work already; leave it out, "
            "or start each by itself"
        )
    shard = Shard(processes.rank + 1, processes.count)
    return replace(of_shard(options, shard), source=processes.place(options.source))


def whole_output(options: ScoreOptions | SummarizeOptions, given: Collection[str]) -> Path:
    """Name the output of all shards together."""
    if isinstance(options, SummarizeOptions):
        return options.files().out
    from trec_cli.score.prompting import Prompting

    prompting = Prompting.of(options, frozenset(given))
    return options.out_file(prompting.system(prompting.find_adapter()))


def work(
    options: ScoreOptions | SummarizeOptions,
    given: Collection[str],
    progress: Progress,
    *,
    overwrite: bool,
) -> None:
    """Do the whole work of a shard, as its command would.

    Raises:
        TrecError: what the command would end with.
    """
    if isinstance(options, SummarizeOptions):
        from trec_cli.summarize.job import make_job

        make_job(options, progress).run(overwrite=overwrite)
        return
    from trec_cli.score.kinds import kind_of
    from trec_cli.score.writing import Top, write_scores

    job = kind_of(options).make(options, frozenset(given), progress)
    out = options.out_file(job.system)
    top = Top(options.top, options.asked.seed) if options.top else None
    with job.running(out):
        write_scores(job, out, progress, top=top, overwrite=overwrite)
