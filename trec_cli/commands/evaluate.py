"""``trec eval``: metrics of every scores file, side by side."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.table import Table

from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.options import (
    Config,
    Debug,
    DryRun,
    Examples,
    Items,
    JsonLine,
    Overwrite,
    Quiet,
    Run,
    Seed,
)
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import is_stream
from trec_cli.core.outputs import locked
from trec_cli.core.records import SPLITS, Split
from trec_cli.core.runs import RunFolder

if TYPE_CHECKING:
    from trec_cli.evaluate.outputs import Plan

_UNBOUNDED = 10_000


def _option(panel: str, *names: str, help_: str, shown: str | None = None, **more: Any) -> Any:
    """Describe an option; ``shown`` is the default in words, where None means something."""
    return typer.Option(
        *names, help=help_, rich_help_panel=panel, show_default=shown or True, **more
    )


_FILES, _NUMBERS = "Files (each overrides the one found in RUN)", "Numbers"

ScoresFiles = Annotated[
    list[Path] | None,
    _option(
        _FILES,
        "--scores",
        help_="A scores file; may be given several times; - is stdin.",
        shown="every scores-NAME.jsonl in RUN",
    ),
]
Markdown = Annotated[
    Path | None, _option(_FILES, "--markdown", help_="Also write the table as Markdown.")
]
Latex = Annotated[Path | None, _option(_FILES, "--latex", help_="Also write the table as LaTeX.")]
TrecRun = Annotated[
    Path | None,
    _option(_FILES, "--trec-run", help_="Also write runs for trec_eval into this folder."),
]
Title = Annotated[
    str, _option(_FILES, "--title", help_="Title of report.html.", shown="Ranking report")
]
Report = Annotated[bool, _option(_FILES, "--report/--no-report", help_="Write report.html.")]
Out = Annotated[
    Path | None,
    _option(_FILES, "--out", "-o", help_="Folder to write into.", shown="RUN"),
]
Cutoffs = Annotated[
    list[int] | None,
    _option(_NUMBERS, "--k", help_="Cut-off; may be given several times.", shown="3, 5, 10", min=1),
]
SplitName = Annotated[str, _option(_NUMBERS, "--split", help_="train, valid or test.")]
Reference = Annotated[
    str | None,
    _option(_NUMBERS, "--reference", help_="Compare all with this system.", shown="the first"),
]
Bootstrap = Annotated[
    int, _option(_NUMBERS, "--bootstrap", help_="Resamples for the intervals.", min=0)
]
Permutations = Annotated[
    int, _option(_NUMBERS, "--permutations", help_="Sign patterns of the paired test.", min=0)
]
Verify = Annotated[
    bool,
    _option(
        "What to do",
        "--verify",
        help_="Evaluate nothing: follow the manifests in RUN back to the raw input and say what "
        "has changed since.",
        shown="no",
    ),
]
Pool = Annotated[
    bool,
    _option(_NUMBERS, "--pool/--no-pool", help_="Pool scores-NAME@SEED.jsonl into system NAME."),
]
Slices = Annotated[
    bool, _option(_NUMBERS, "--slices", help_="Show the table of slices, too.", shown="no")
]
SliceBy = Annotated[
    list[str] | None,
    _option(
        _NUMBERS,
        "--slice-by",
        help_="Slice by this attribute of the right item, too; may be given several times.",
    ),
]
_STUDY = "Studies: many arms run and compared by one command"
StudyFile = Annotated[
    Path | None,
    _option(_STUDY, "--study", help_="Run the arms of this TOML file; --out holds its work."),
]
Changes = Annotated[
    list[str] | None,
    _option(
        _STUDY,
        "--set",
        help_="KEY=VALUE in place of what the study says, like train.epochs=1; repeatable.",
    ),
]
Arms = Annotated[
    list[str] | None,
    _option(_STUDY, "--arm", help_="Run and compare only this arm; repeatable.", shown="all"),
]
Jobs = Annotated[
    int | None,
    _option(
        _STUDY,
        "--jobs",
        help_="Commands of the study at once; each has its share of the cores, and one GPU.",
        shown="1",
        min=1,
    ),
]


def evaluate(
    context: typer.Context,
    run: Run = None,
    verify: Verify = False,
    scores: ScoresFiles = None,
    items: Items = None,
    examples: Examples = None,
    out: Out = None,
    markdown: Markdown = None,
    latex: Latex = None,
    trec_run: TrecRun = None,
    report: Report = True,
    title: Title = "",
    k: Cutoffs = None,
    split: SplitName = "test",
    reference: Reference = None,
    bootstrap: Bootstrap = 1000,
    permutations: Permutations = 10_000,
    pool: Pool = True,
    slices: Slices = False,
    slice_by: SliceBy = None,
    seed: Seed = 0,
    study: StudyFile = None,
    changes: Changes = None,
    arm: Arms = None,
    jobs: Jobs = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json_line: JsonLine = False,
    debug: Debug = False,
    config: Config = None,  # noqa: ARG001 - read by its callback
) -> None:
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
    with stage("eval", quiet=quiet, json_line=json_line, debug=debug) as terminal:
        if verify:
            _verify(run, terminal, show=not quiet and not json_line)
            return
        if study is not None:
            from trec_cli.commands.study import run_study

            run_study(
                context,
                study,
                changes or [],
                arm or [],
                out,
                terminal,
                jobs=jobs or 1,
                dry_run=dry_run,
                overwrite=overwrite,
                quiet=quiet,
                show=lambda summary: (
                    None if quiet or json_line else _print_tables(summary, slices=False)
                ),
            )
            return
        for option, given in {"--set": changes, "--arm": arm, "--jobs": jobs}.items():
            if given:
                raise UsageError(f"{option} is for a study: name it with --study")
        from trec_cli.evaluate.metrics import DEFAULT_KS
        from trec_cli.evaluate.outputs import Plan, find_files
        from trec_cli.evaluate.results import Options
        from trec_cli.evaluate.sources import Sources

        _check(out, examples, split)
        _check_tables(markdown, latex, trec_run)
        files = find_files(run, scores or [], cast(Split, split))
        if run and not scores:
            _name_left_out(run, {file.path for file in files}, split, terminal)
        ks = tuple(sorted(set(k or DEFAULT_KS)))
        by = tuple(dict.fromkeys(slice_by or ()))
        options = Options(ks, bootstrap, permutations, seed, reference, pool, by)
        known = [file.path for file in files if not is_stream(file.path)]
        plan = Plan(
            files,
            cast(Split, split),
            options,
            out or run,
            markdown,
            latex,
            trec_run,
            Sources.find(run, items, examples, known),
            report and (out or run) is not None,
            title,
        )
        plan.check(slices=slices)
        summary = _look(plan, terminal) if dry_run else _evaluate(plan, terminal, overwrite)
        if not quiet and not json_line and summary:
            _print_tables(summary, slices=slices)


def _verify(run: Path | None, terminal: Terminal, *, show: bool) -> None:
    """Follow the manifests of RUN; what does not hold is an error."""
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


def _check(out: Path | None, examples: Path | None, split: str) -> None:
    """Refuse what the command line asks for in vain."""
    if out is not None and is_stream(out):
        raise UsageError("trec eval writes several files: name a folder with --out")
    if examples is not None and is_stream(examples):
        raise UsageError("trec eval reads only scores from standard input: --scores -")
    if split not in SPLITS:
        raise UsageError(f"--split {split!r} is none of {', '.join(SPLITS)}")


def _name_left_out(run: Path, kept: set[Path], split: str, terminal: Terminal) -> None:
    """Say which scores files of RUN are of another split."""
    for path in RunFolder(run).all_scores():
        if path not in kept:
            terminal.info(f"{path.name} is of another split than {split}: left out")


def _check_tables(*outputs: Path | None) -> None:
    """Refuse to write a table beside the one on stdout."""
    if any(path is not None and is_stream(path) for path in outputs):
        raise UsageError("--markdown, --latex and --trec-run cannot go to standard output")


def _look(plan: "Plan", terminal: Terminal) -> dict[str, Any]:
    """Read and check everything; say what would be written."""
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
    """Evaluate unless it is done already; give the summary."""
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
                summary = write(plan, systems, provenance, terminal)
    terminal.result(outputs=[str(path) for path in plan.outputs()], **summary)
    return summary


def _print_tables(summary: dict[str, Any], *, slices: bool) -> None:
    """Print the tables on stdout; on a narrow terminal the systems become the columns."""
    from trec_cli.evaluate.tables import narrow_tables, slices_table, terminal_table

    console = Console(highlight=False)

    def fits(table: Table) -> bool:
        return not console.is_terminal or _width(table) <= console.width

    table = terminal_table(summary)
    for part in [table] if fits(table) else narrow_tables(summary, console.width):
        _print_table(part)
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
