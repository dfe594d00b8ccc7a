"""``trec prepare``: a downloaded collection becomes items and examples."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.core.runs import RunFolder
from trec_cli.prepare.settings import PrepareOptions

if TYPE_CHECKING:
    from trec_cli.audit.run import Audit
    from trec_cli.prepare.build import Prepared


@command("prepare", PrepareOptions)
def prepare(options: PrepareOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Read a collection as downloaded; write items.jsonl and examples.jsonl into a run folder.

    Knows MIND, Amazon-M2, Amazon reviews (2014, 2018, 2023), plain JSONL, and logs of clicks or
    ratings (CSV, TSV, JSONL, Parquet, RecBole, MovieLens), also as .zip or .gz.

    [bold]trec prepare samples/shop --out runs/shop[/]

    [bold]trec prepare samples/news --out runs/clicks --target impression[/]
    """
    from trec_cli.prepare.job import opened

    with opened(options, invocation.given, terminal) as job:
        terminal.info(f"found {job.found}")
        found: list[Audit] = []

        def audited(items: Path, examples: Path) -> dict[str, Any] | None:
            audit = _audit(job.prepared, items, examples)
            found.extend([audit] if audit else [])
            return audit.as_dict() if audit else None

        if invocation.dry_run:
            _preview(terminal, job.prepared)
        elif not job.write(overwrite=invocation.overwrite, audit=audited):
            terminal.info(f"{job.run.examples} is finished already; nothing to do")
            terminal.result(out=str(job.run.path), done_before=True)
            return
        if job.growth:
            terminal.info(str(job.growth))
            terminal.result(growth=asdict(job.growth))
        _report(terminal, job.prepared, job.run, found, dry_run=invocation.dry_run)


def _preview(terminal: Terminal, prepared: "Prepared") -> None:
    """Go through everything without writing, and show the first example with its texts."""
    from trec_cli.prepare.build import check_not_empty
    from trec_cli.prepare.report import example_lines

    examples = prepared.examples()
    first = next(examples, None)
    for written in (examples, prepared.items()):
        for _ in written:
            pass
    check_not_empty(prepared)
    if first is not None:
        for line in example_lines(first, prepared.catalogue):
            terminal.info(line)


def _audit(prepared: "Prepared", items: Path, examples: Path) -> "Audit | None":
    """Measure how well the right answer is told without the user."""
    from trec_cli.audit.evaluation import audit_prepared

    return audit_prepared(items, examples, prepared.report.examples, prepared.settings.seed)


def _report(
    terminal: Terminal,
    prepared: "Prepared",
    run: RunFolder,
    found: Sequence["Audit"],
    *,
    dry_run: bool,
) -> None:
    """Show the tables, what to look at, and what to do next; ``found`` holds an audit, or none."""
    from trec_cli.prepare.report import report_tables

    report = prepared.report
    for table in report_tables(report):
        terminal.table(table)
    for audit in found:
        from trec_cli.audit.evaluation import audit_table

        terminal.table(audit_table(audit))
    for message in (*report.warnings(), *(w for audit in found for w in audit.warnings())):
        terminal.warn(message)
    for message in report.alarms():
        terminal.alarm(message)
    audited = {"audit": found[0].as_dict()} if found else {}
    terminal.result(counts=report.as_dict(), out=str(run.path), dry_run=dry_run, **audited)
    if dry_run:
        terminal.info("dry run: nothing was written")
    else:
        following = "summarize" if prepared.settings.asks_with_answer else "recommend"
        terminal.info(f"wrote {run.items} and {run.examples}; next: trec {following} {run.path}")
