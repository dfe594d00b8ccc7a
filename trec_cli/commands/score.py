"""``trec score``: one score per candidate, by a language model or a baseline."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.commands.many import as_one_of_many, make_on_ray, merge_hint
from trec_cli.commands.preview import show_bill, show_prompt, show_refusal
from trec_cli.core.cost import Work
from trec_cli.core.files import require
from trec_cli.core.jsonl import is_stream
from trec_cli.core.records import PREDICT
from trec_cli.core.runs import RunFolder, system_name
from trec_cli.core.text import counted
from trec_cli.models.processes import Processes
from trec_cli.score.options import ScoreOptions

if TYPE_CHECKING:
    from trec_cli.score.job import Job
    from trec_cli.score.writing import Top


@command("score", ScoreOptions, speaks=lambda: Processes.here().is_main)
def score(options: ScoreOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Score every candidate: the log-odds that the model answers yes.

    Takes the adapter RUN/model-MODE with the prompt that it was trained on;
    where there is none, the base model. What the candidates of a user share is
    computed once. Killed, the same command goes on where it was.

    [bold]trec score runs/sample --mode hier[/]

    [bold]trec score runs/sample --scorer popularity[/]

    [bold]trec score runs/sample --split predict --top 10 --out tonight.csv[/]
    """
    from trec_cli.score.kinds import refuse_foreign

    refuse_foreign(options, invocation.typed)
    options.check()
    if options.scorer == "llm" and options.llm.engine == "ray" and not invocation.dry_run:
        make_on_ray(options, invocation, terminal)
        return
    with as_one_of_many(options, invocation, terminal) as own:
        _score(own, invocation, terminal)


def _score(options: ScoreOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Score, in this process, what it was given."""
    require(options.asked.files(options.summaries_file() if options.scorer == "llm" else None))
    from trec_cli.score.job import Cost
    from trec_cli.score.kinds import kind_of
    from trec_cli.score.writing import Top, refusal

    job = kind_of(options).make(options, invocation.given, terminal)
    out = options.out_file(job.system)
    top = Top(options.top, options.asked.seed) if options.top else None
    if invocation.dry_run:
        _preview(job, out, terminal)
        refused = refusal(job, out, top=top, overwrite=invocation.overwrite)
        show_refusal(refused, ScoreOptions, terminal)
        total = sum(map(job.cost, range(len(job.examples))), Cost())
        show_bill(options.plan, options.source, Work(read=total.tokens), total.users, terminal)
        return
    try:
        with job.running(out):
            following = merge_hint(out) or _next(options, out)
            _write(job, out, top, terminal, following, overwrite=invocation.overwrite)
    finally:
        terminal.result(**job.spent())


def _next(options: ScoreOptions, out: Path) -> str:
    """Write the command that evaluates the scores; nothing where there are no answers."""
    split, run = options.asked.split, options.asked.run
    if options.top or split == PREDICT:
        return ""
    home = out.parent if run is None else run
    found = out.resolve() == RunFolder(home).scores(system_name(out)).resolve()
    words = [] if run is None and not found else [str(home)]
    words += [] if found else ["--scores", str(out)]
    words += [] if split == "test" else ["--split", split]
    return f"; next: trec eval {shlex.join(words)}"


def _preview(job: "Job", out: Path, terminal: Terminal) -> None:
    """Show the first prompt, its tokens part by part, and what all of it would cost."""
    if parts := job.describe():
        show_prompt(parts, terminal)
    words, fields = job.outlook(out)
    terminal.info(f"dry run: {words}")
    terminal.result(dry_run=True, out=str(out), **fields)


def _write(
    job: "Job",
    out: Path,
    top: "Top | None",
    terminal: Terminal,
    following: str,
    *,
    overwrite: bool,
) -> None:
    """Score, and tell what came of it, and what comes next."""
    from trec_cli.score.writing import write_scores

    tally = write_scores(job, out, terminal, top=top, overwrite=overwrite)
    if tally is None:
        terminal.info(f"{out} is finished already; nothing to do")
        terminal.result(out=str(out), done_before=True)
        return
    if tally.earlier.examples:
        terminal.info(tally.growth())
    if tally.continued:
        terminal.info(f"{counted(tally.continued, 'user')} had been scored before")
    for line in (tally.note(), *job.remarks()):
        terminal.info(line)
    if not is_stream(out):
        terminal.info(f"wrote {out}{following}")
    terminal.result(out=str(out), examples=len(job.examples), **tally.details(), **job.details())
