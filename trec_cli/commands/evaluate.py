"""``trec eval``: metrics of every scores file, side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.core.errors import UsageError
from trec_cli.core.text import counted
from trec_cli.evaluate.settings import EvalOptions

if TYPE_CHECKING:
    from trec_cli.evaluate.job import EvalJob

_UNBOUNDED = 10_000


@command("eval", EvalOptions, streams=False)
def evaluate(options: EvalOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Compare scores files: Recall, MRR, NDCG and AUC with intervals and paired tests.

    Prints a table; writes metrics.json, per_user.jsonl and report.html into RUN (or --out).

    Examples:
      trec eval runs/demo
      trec eval runs/demo --reference popularity --markdown table.md
      trec eval runs/demo --slices --slice-by category
      trec eval runs/demo --verify
      trec eval runs/demo --exposure shown.jsonl
      cat scores.jsonl | trec eval --scores - --json
      trec eval --study samples/studies/smoke.toml --out runs/study
    """
    shown = not invocation.quiet and not invocation.json_line
    if options.verify:
        _verify(options.run, terminal, show=shown)
    elif options.exposure is not None:
        _estimate(options, options.exposure, invocation, terminal, show=shown)
    elif options.studies.study is not None:
        from trec_cli.commands.study import run_study

        def show(summary: dict[str, Any]) -> None:
            if shown:
                _print_tables(summary, options, slices=False)

        run_study(options, invocation, terminal, show)
    else:
        _refuse_study_options(invocation)
        summary = _compare(options, invocation, terminal)
        if shown and summary:
            _print_tables(summary, options, slices=options.slices)


def _refuse_study_options(invocation: Invocation) -> None:
    for option in ("set", "arm", "jobs"):
        if option in invocation.given:
            raise UsageError(f"--{option} is for a study: name it with --study")


def _compare(options: EvalOptions, invocation: Invocation, terminal: Terminal) -> dict[str, Any]:
    """Compare the scores files that are named, or all of RUN; return what metrics.json has."""
    from trec_cli.evaluate.job import EvalJob

    job = EvalJob(options, terminal)
    for path in job.left_out:
        terminal.info(f"{path.name} is of another split than {options.split}: left out")
    if invocation.dry_run:
        return _look(job, terminal)
    from trec_cli.audit.evaluation import audit_systems

    summary, made = job.run(audit_systems, overwrite=invocation.overwrite)
    if not made:
        terminal.info("nothing to do: the evaluation is up to date")
    terminal.result(outputs=[str(path) for path in job.plan.outputs()], **summary)
    return summary


def _verify(run: Path | None, terminal: Terminal, *, show: bool) -> None:
    """Follow the manifests of RUN; raise an error where one does not hold."""
    from trec_cli.core.lineage import check, follow
    from trec_cli.evaluate.tables import links_table

    if run is None:
        raise UsageError("--verify needs the RUN folder")
    links = follow(run)
    if show and links:
        _print_table(links_table(links))
    files = [
        {
            "file": str(link.path),
            "made_by": link.made_by,
            "state": link.state,
            "problems": [problem.text for problem in link.problems],
        }
        for link in links
    ]
    terminal.result(files=files)
    check(run, links)
    terminal.info(f"all holds: {counted(len(links), 'file was', 'files were')} looked at")


def _estimate(
    options: EvalOptions, log: Path, invocation: Invocation, terminal: Terminal, *, show: bool
) -> None:
    """Estimate what lists would have earned, from a log of what was shown."""
    from trec_cli.evaluate.exposure_log import ExposureJob
    from trec_cli.evaluate.tables import exposure_table

    options.check()
    job = ExposureJob(options, log)
    if invocation.dry_run:
        events = job.look()
        terminal.info(f"dry run: {counted(events, 'event')}, nothing written")
        terminal.result(dry_run=True, events=events)
        return
    found, made = job.run(terminal, overwrite=invocation.overwrite)
    if not made:
        terminal.info("nothing to do: the estimates are up to date")
    if show:
        _print_table(exposure_table(found))
    terminal.result(**found)


def _look(job: "EvalJob", terminal: Terminal) -> dict[str, Any]:
    """Read and check everything; report what would be written."""
    systems = job.look()
    for system in systems:
        number = len(system.users)
        width = int(system.widths.sum()) / number
        terminal.info(f"{system.name}: {counted(number, 'example')}, {width:.1f} candidates each")
    outputs = ", ".join(map(str, job.plan.outputs())) or "no file"
    terminal.info(f"dry run: nothing written; the run would write {outputs}")
    terminal.result(dry_run=True, systems=[system.name for system in systems])
    return {}


def _print_tables(summary: dict[str, Any], options: EvalOptions, *, slices: bool) -> None:
    """Print the tables on stdout; on a narrow terminal the systems become the columns."""
    from trec_cli.evaluate.tables import (
        beyond_table,
        narrow_tables,
        selected,
        slices_table,
        terminal_table,
    )

    console = Console(highlight=False)

    def fits(table: Table) -> bool:
        return not console.is_terminal or _width(table) <= console.width

    main = selected(summary, options.columns, intervals=options.intervals)
    table = terminal_table(main)
    for part in [table] if fits(table) else narrow_tables(main, console.width):
        _print_table(part)
    if "beyond" in summary:
        _print_table(beyond_table(summary))
    if slices:
        table = slices_table(summary)
        _print_table(table if fits(table) else slices_table(summary, wide=False))


def _print_table(table: Table) -> None:
    """Print a table on stdout; where that is no terminal nothing is wrapped."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(_width(table), console.width)
    console.print(table)


def _width(table: Table) -> int:
    return Console(width=_UNBOUNDED).measure(table).maximum
