"""``trec prepare``: a downloaded collection becomes items and examples."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.core.errors import SettingsChanged, UsageError
from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.options import declared
from trec_cli.core.outputs import locked
from trec_cli.core.runs import RunFolder
from trec_cli.prepare.collection import ReadOptions
from trec_cli.prepare.settings import PrepareOptions, PrepareSettings

if TYPE_CHECKING:
    from trec_cli.audit.run import Audit
    from trec_cli.prepare.archive import Source
    from trec_cli.prepare.build import Prepared
    from trec_cli.prepare.formats import Found

_FOR_EVERY_FORMAT = "attributes"


@command("prepare", PrepareOptions)
def prepare(options: PrepareOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Read a collection as downloaded; write items.jsonl and examples.jsonl into a run folder.

    Knows MIND, Amazon-M2, Amazon reviews (2014, 2018, 2023), plain JSONL, and logs of clicks or
    ratings (CSV, TSV, JSONL, Parquet, RecBole, MovieLens), also as .zip or .gz.

    [bold]trec prepare samples/shop --out runs/shop[/]

    [bold]trec prepare samples/news --out runs/clicks --target impression[/]
    """
    from trec_cli.prepare.archive import Source
    from trec_cli.prepare.detect import detect
    from trec_cli.prepare.sources.columns import parse_columns

    columns = parse_columns(options.read.columns)
    with Source(options.source, items=options.read.items, columns=columns) as files:
        found = detect(files, options.format)
        _check_foreign(found, invocation)
        settings = options.settings(found.format.defaults)
        _run(terminal, files, found, settings, RunFolder(options.out), invocation)


def _check_foreign(found: "Found", invocation: Invocation) -> None:
    """Refuse an option that is for another format."""
    reading = {option.parameter: option.flag for option in declared(ReadOptions)}
    foreign = reading.keys() & invocation.given - found.format.options - {_FOR_EVERY_FORMAT}
    if foreign:
        named = ", ".join(sorted(reading[name] for name in foreign))
        raise UsageError(f"{named}: not an option of the format {found.format.name}")


def _check_out(run: RunFolder, found: "Found") -> None:
    """Refuse to write where the source lies, or to a stream: there are two files."""
    if is_stream(run.path):
        raise UsageError("trec prepare writes two files: name a folder with --out")
    sources = {Path(file).resolve() for file in found.inputs}
    for output in (run.items, run.examples):
        if output.resolve() in sources:
            raise UsageError(f"{output} is a file of the source; name another folder with --out")


def _run(
    terminal: Terminal,
    files: "Source",
    found: "Found",
    settings: PrepareSettings,
    run: RunFolder,
    invocation: Invocation,
) -> None:
    """Prepare, unless it is done already; tell what came of it."""
    from trec_cli.prepare.build import build, save

    terminal.info(f"found {found}")
    _check_out(run, found)
    described = {"format": found.format.name, **settings.as_dict()}
    dry_run = invocation.dry_run
    with nullcontext() if dry_run else locked(run.examples):
        own = settings.candidates_file
        provenance = Provenance("prepare", described, [*found.inputs, *([own] if own else [])])
        provenance.inputs = files.as_named(provenance.inputs)
        replaced = invocation.overwrite or dry_run
        done, change = _is_done(run, provenance, overwrite=replaced)
        if done:
            terminal.info(f"{run.examples} is finished already; nothing to do")
            terminal.result(out=str(run.path), done_before=True)
            return
        collection = found.format.read(files, found.files, settings.read, terminal)
        prepared = build(collection, settings, terminal)
        if dry_run:
            _preview(terminal, prepared)
        elif growth := save(prepared, run, provenance, change):
            terminal.info(str(growth))
            terminal.result(growth=asdict(growth))
        _report(terminal, prepared, run, dry_run=dry_run)


def _is_done(
    run: RunFolder, provenance: Provenance, *, overwrite: bool
) -> tuple[bool, SettingsChanged | None]:
    """Check for finished output; where inputs alone have changed, return that as well.

    Raises:
        SettingsChanged: it was made with other settings.
    """
    change, done = None, True
    for output in (run.items, run.examples):
        try:
            done &= up_to_date(output, provenance.settings, overwrite=overwrite)
        except SettingsChanged as changed:
            if not changed.only_inputs:
                raise
            change, done = changed, False
    return done, change


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


def _report(terminal: Terminal, prepared: "Prepared", run: RunFolder, *, dry_run: bool) -> None:
    """Show the tables, what to look at, and what to do next."""
    from trec_cli.prepare.report import report_tables

    report = prepared.report
    for table in report_tables(report):
        terminal.table(table)
    audit = None if dry_run else _audit(terminal, run, report.examples, prepared.settings.seed)
    for message in (*report.warnings(), *([audit.warning()] if audit else [])):
        if message:
            terminal.warn(message)
    for message in report.alarms():
        terminal.alarm(message)
    audited = {"audit": audit.as_dict()} if audit else {}
    terminal.result(counts=report.as_dict(), out=str(run.path), dry_run=dry_run, **audited)
    if dry_run:
        terminal.info("dry run: nothing was written")
    else:
        following = "summarize" if prepared.settings.asks_with_answer else "recommend"
        terminal.info(f"wrote {run.items} and {run.examples}; next: trec {following} {run.path}")


def _audit(terminal: Terminal, run: RunFolder, examples: int, seed: int) -> "Audit | None":
    """Measure how well the right answer is told without the user, and show it."""
    from trec_cli.audit.evaluation import audit_prepared, audit_table

    audit = audit_prepared(run, examples, seed)
    if audit is not None:
        terminal.table(audit_table(audit))
    return audit
