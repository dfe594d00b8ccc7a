"""``trec prepare``: a downloaded collection becomes items and examples."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.options import (
    Config,
    Debug,
    DryRun,
    JsonLine,
    Overwrite,
    Quiet,
    Seed,
    names,
)
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import locked
from trec_cli.core.runs import RunFolder
from trec_cli.prepare.collection import Long, ReadOptions, Target
from trec_cli.prepare.settings import (
    FormatName,
    Negatives,
    PrepareSettings,
    SplitKind,
    Unknown,
    Written,
    parse_sizes,
)

if TYPE_CHECKING:
    from trec_cli.prepare.archive import Source
    from trec_cli.prepare.build import Prepared
    from trec_cli.prepare.formats import Found


def _option(panel: str, name: str, help_: str, shown: str | None = None, **more: Any) -> Any:
    """Describe an option; ``shown`` is the default in words, where None means something."""
    return typer.Option(name, help=help_, rich_help_panel=panel, show_default=shown or True, **more)


_READ, _KEEP, _ASK = "Reading", "What is kept", "Splits and negatives"

SourcePath = Annotated[
    Path, typer.Argument(help="Folder, file or .zip of the collection, as downloaded.")
]
OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Run folder to write into.")]
FormatOption = Annotated[FormatName, _option(_READ, "--format", "Format of the source.")]
Attributes = Annotated[
    str | None,
    _option(
        _READ, "--attributes", "Texts to keep of an item, in order: title,brand", "the paper's"
    ),
]
TargetOption = Annotated[
    Target | None,
    _option(
        _READ,
        "--target",
        "MIND: the last click of the history (as in the paper), or the clicked articles of "
        "the impression.",
        "history",
    ),
]
PerImpression = Annotated[
    bool,
    _option(
        _READ, "--per-impression", "MIND: every impression is an example, not only a user's last."
    ),
]
Locale = Annotated[
    str | None, _option(_READ, "--locale", "Amazon-M2: UK, DE, JP, ES, FR or IT.", "UK")
]
MinHistory = Annotated[
    int | None,
    _option(
        _KEEP, "--min-history", "Fewest items before the target.", "MIND, M2: 10; else 1", min=0
    ),
]
MaxHistory = Annotated[
    int | None,
    _option(
        _KEEP, "--max-history", "Most items before the target.", "MIND, M2: 25; else 50", min=1
    ),
]
LongOption = Annotated[
    Long | None,
    _option(
        _KEEP,
        "--long",
        "What is longer keeps its last items, or is dropped.",
        "MIND, M2: drop; else keep-last",
    ),
]
UnknownOption = Annotated[
    Unknown,
    _option(_KEEP, "--unknown", "Items without text: leave out, keep as they are, or stop."),
]
MaxUsers = Annotated[
    int | None, _option(_KEEP, "--max-users", "Keep so many users, picked by seed.", min=1)
]
CatalogueOption = Annotated[
    Written | None,
    _option(
        _KEEP,
        "--catalogue",
        "Write the items of the examples, or all with text.",
        "used; with --predict all",
    ),
]
SplitOption = Annotated[
    SplitKind,
    _option(
        _ASK,
        "--split",
        "auto is fixed where some users have candidates fixed by the source (these test), "
        "else users.",
    ),
]
TrainUsers = Annotated[
    str | None,
    _option(_ASK, "--train-users", "Share (0.8, 10/12) or number (10000) of users.", "10/12"),
]
ValidUsers = Annotated[str | None, _option(_ASK, "--valid-users", "The same.", "1/12")]
TestUsers = Annotated[str | None, _option(_ASK, "--test-users", "The same.", "1/12")]
NegativesOption = Annotated[
    Negatives,
    _option(
        _ASK, "--negatives", "auto is fixed or impression where the source has them, else uniform."
    ),
]
NumNegatives = Annotated[
    int | None,
    _option(
        _ASK,
        "--num-negatives",
        "Negatives of an example.",
        "20 drawn, or all of the source's",
        min=1,
    ),
]
Predict = Annotated[
    bool,
    _option(
        _ASK,
        "--predict",
        "Ask of every user what comes next, after the whole history (split predict).",
    ),
]


def prepare(
    source: SourcePath,
    out: OutFolder,
    format_: FormatOption = "auto",
    attributes: Attributes = None,
    target: TargetOption = None,
    per_impression: PerImpression = False,
    locale: Locale = None,
    min_history: MinHistory = None,
    max_history: MaxHistory = None,
    long: LongOption = None,
    unknown: UnknownOption = "drop",
    max_users: MaxUsers = None,
    catalogue: CatalogueOption = None,
    split: SplitOption = "auto",
    train_users: TrainUsers = None,
    valid_users: ValidUsers = None,
    test_users: TestUsers = None,
    negatives: NegativesOption = "auto",
    num_negatives: NumNegatives = None,
    predict: Predict = False,
    seed: Seed = 0,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json_line: JsonLine = False,
    debug: Debug = False,
    config: Config = None,  # noqa: ARG001 - its callback has read it
) -> None:
    """Read a collection as downloaded; write items.jsonl and examples.jsonl into a run folder.

    Knows MIND, Amazon-M2, Amazon reviews (2014, 2018, 2023) and plain JSONL, also as .zip or .gz.

    [bold]trec prepare samples/shop --out runs/shop[/]

    [bold]trec prepare samples/news --out runs/clicks --target impression[/]
    """
    from trec_cli.prepare.archive import Source
    from trec_cli.prepare.detect import detect

    with (
        stage("prepare", quiet=quiet, json_line=json_line, debug=debug) as terminal,
        Source(source) as files,
    ):
        found = detect(files, format_)
        own = {"target": target, "per_impression": per_impression, "locale": locale}
        settings = PrepareSettings(
            read=_read_options(found, attributes, own),
            min_history=found.format.defaults.min_history if min_history is None else min_history,
            max_history=max_history or found.format.defaults.max_history,
            long=long or found.format.defaults.long,
            unknown=unknown,
            split=split,
            sizes=parse_sizes(train_users, valid_users, test_users, predict=predict),
            max_users=max_users,
            negatives=negatives,
            number=num_negatives,
            written=catalogue or ("all" if predict else "used"),
            seed=seed,
            predict=predict,
        )
        _run(terminal, files, found, settings, RunFolder(out), dry_run, overwrite)


def _check_out(run: RunFolder, found: "Found") -> None:
    """Refuse to write where the source lies, or to a stream: there are two files."""
    if is_stream(run.path):
        raise UsageError("trec prepare writes two files: name a folder with --out")
    sources = {Path(file).resolve() for file in found.inputs}
    for output in (run.items, run.examples):
        if output.resolve() in sources:
            raise UsageError(f"{output} is a file of the source; name another folder with --out")


def _read_options(found: "Found", attributes: str | None, own: dict[str, Any]) -> ReadOptions:
    """Put together how to read; an option that the format does not have is an error."""
    given = {name: value for name, value in own.items() if value}
    foreign = given.keys() - found.format.options
    if foreign:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(foreign))
        raise UsageError(f"{named}: not an option of the format {found.format.name}")
    asked = names(attributes)
    return ReadOptions(found.format.defaults.attributes if asked is None else asked, **given)


def _run(
    terminal: Terminal,
    files: "Source",
    found: "Found",
    settings: PrepareSettings,
    run: RunFolder,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Prepare, unless it is done already; tell what came of it."""
    from trec_cli.prepare.build import build, save

    terminal.info(f"found {found}")
    _check_out(run, found)
    described = {"format": found.format.name, **settings.as_dict()}
    with nullcontext() if dry_run else locked(run.examples):
        provenance = Provenance("prepare", described, found.inputs)
        done = [
            up_to_date(output, provenance.settings, overwrite=overwrite or dry_run)
            for output in (run.items, run.examples)
        ]
        if all(done):
            terminal.info(f"{run.examples} is finished already; nothing to do")
            terminal.result(out=str(run.path), done_before=True)
            return
        prepared = build(
            found.format.read(files, found.files, settings.read, terminal), settings, terminal
        )
        if dry_run:
            _preview(terminal, prepared)
        else:
            save(prepared, run, provenance)
        _tell(terminal, prepared, run, dry_run)


def _preview(terminal: Terminal, prepared: "Prepared") -> None:
    """Go through everything without writing, and show the first example with its texts."""
    from trec_cli.prepare.build import check_not_empty
    from trec_cli.prepare.tables import example_lines

    examples = prepared.examples()
    first = next(examples, None)
    for written in (examples, prepared.items()):
        for _ in written:
            pass
    check_not_empty(prepared)
    if first is not None:
        for line in example_lines(first, prepared.catalogue):
            terminal.info(line)


def _tell(terminal: Terminal, prepared: "Prepared", run: RunFolder, dry_run: bool) -> None:
    from trec_cli.prepare.tables import report_tables

    report = prepared.report
    for table in report_tables(report):
        terminal.table(table)
    for message in report.warnings():
        terminal.warn(message)
    for message in report.alarms():
        terminal.alarm(message)
    terminal.result(counts=report.as_dict(), out=str(run.path), dry_run=dry_run)
    if dry_run:
        terminal.info("dry run: nothing was written")
    else:
        terminal.info(f"wrote {run.items} and {run.examples}; next: trec summarize {run.path}")
