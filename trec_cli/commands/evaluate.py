"""``trec eval``: metrics of every scores file, side by side."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import is_stream
from trec_cli.core.outputs import locked
from trec_cli.core.records import Split
from trec_cli.core.runs import RunFolder
from trec_cli.evaluate.settings import EvalOptions

if TYPE_CHECKING:
    from trec_cli.evaluate.outputs import Plan
    from trec_cli.evaluate.results import Blind
    from trec_cli.evaluate.scores import ScoresFile, System

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
      cat scores.jsonl | trec eval --scores - --json
      trec eval --study samples/studies/smoke.toml --out runs/study
    """
    shown = not invocation.quiet and not invocation.json_line
    if options.verify:
        _verify(options.run, terminal, show=shown)
    elif options.studies.study is not None:
        from trec_cli.commands.study import run_study

        def show(summary: dict[str, Any]) -> None:
            if shown:
                _print_tables(summary, slices=False)

        run_study(options, invocation, terminal, show)
    else:
        _refuse_study_options(invocation)
        summary = _compare(options, invocation, terminal)
        if shown and summary:
            _print_tables(summary, slices=options.slices)


def _refuse_study_options(invocation: Invocation) -> None:
    for option in ("set", "arm", "jobs"):
        if option in invocation.given:
            raise UsageError(f"--{option} is for a study: name it with --study")


def _compare(options: EvalOptions, invocation: Invocation, terminal: Terminal) -> dict[str, Any]:
    """Compare the scores files that are named, or all of RUN; return what metrics.json has."""
    from trec_cli.evaluate.outputs import find_files

    options.check()
    split = cast(Split, options.split)
    files = find_files(options.run, options.scores, split)
    if options.run and not options.scores:
        _name_left_out(options.run, {file.path for file in files}, split, terminal)
    plan = _plan(options, files)
    plan.check(slices=options.slices)
    if invocation.dry_run:
        return _look(plan, terminal)
    return _evaluate(plan, terminal, invocation.overwrite)


def _plan(options: EvalOptions, files: "list[ScoresFile]") -> "Plan":
    from trec_cli.evaluate.outputs import Plan
    from trec_cli.evaluate.sources import Sources

    known = [file.path for file in files if not is_stream(file.path)]
    folder = options.out or options.run
    return Plan(
        files=files,
        split=cast(Split, options.split),
        options=options.numbers,
        folder=folder,
        markdown=options.markdown,
        latex=options.latex,
        trec_run=options.trec_run,
        sources=Sources.find(options.run, options.items, options.examples, known),
        report=options.report and folder is not None,
        title=options.title,
    )


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
    terminal.info(f"all holds: {len(links)} files were looked at")


def _name_left_out(run: Path, kept: set[Path], split: str, terminal: Terminal) -> None:
    """Report which scores files of RUN are of another split."""
    for path in RunFolder(run).all_scores():
        if path not in kept:
            terminal.info(f"{path.name} is of another split than {split}: left out")


def _look(plan: "Plan", terminal: Terminal) -> dict[str, Any]:
    """Read and check everything; report what would be written."""
    from trec_cli.evaluate.outputs import load
    from trec_cli.evaluate.scores import at_hand

    with at_hand(plan.files) as files:
        systems = load(replace(plan, files=files), terminal)
    for system in systems:
        number = len(system.users)
        width = len(system.pools.scores) / number
        terminal.info(f"{system.name}: {number} examples, {width:.1f} candidates each")
    outputs = ", ".join(map(str, plan.outputs())) or "no file"
    terminal.info(f"dry run: nothing written; the run would write {outputs}")
    terminal.result(dry_run=True, systems=[system.name for system in systems])
    return {}


def _evaluate(plan: "Plan", terminal: Terminal, overwrite: bool) -> dict[str, Any]:
    """Evaluate unless it is done already; return the summary."""
    from trec_cli.core.manifest import Provenance
    from trec_cli.evaluate.outputs import finished, load, read_summary, write
    from trec_cli.evaluate.scores import at_hand

    with locked(plan.folder / "metrics.json") if plan.folder else nullcontext():
        # Hashing takes a while; where only a table is printed there is nothing to account for.
        inputs = plan.inputs() if plan.outputs() else []
        provenance = Provenance("eval", plan.settings(), inputs)
        if finished(plan, provenance, overwrite=overwrite) and plan.folder:
            terminal.info("nothing to do: the evaluation is up to date")
            summary = read_summary(plan.folder)
        else:
            with at_hand(plan.files) as files:
                systems = load(replace(plan, files=files), terminal)
                blind = _audit(plan, systems[0], terminal)
                summary = write(plan, systems, provenance, terminal, blind)
    terminal.result(outputs=[str(path) for path in plan.outputs()], **summary)
    return summary


def _audit(plan: "Plan", system: "System", terminal: Terminal) -> "Blind | None":
    """Audit the questions, where examples are at hand."""
    if not plan.options.audit or plan.sources.examples is None:
        return None
    from trec_cli.audit.evaluation import audit_systems

    return audit_systems(plan.sources, system, plan.split, plan.options.seed, terminal)


def _print_tables(summary: dict[str, Any], *, slices: bool) -> None:
    """Print the tables on stdout; on a narrow terminal the systems become the columns."""
    from trec_cli.evaluate.tables import (
        beyond_table,
        narrow_tables,
        slices_table,
        terminal_table,
    )

    console = Console(highlight=False)

    def fits(table: Table) -> bool:
        return not console.is_terminal or _width(table) <= console.width

    table = terminal_table(summary)
    for part in [table] if fits(table) else narrow_tables(summary, console.width):
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
