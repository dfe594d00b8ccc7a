"""Options of ``trec eval``, each declared once."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from trec_cli.core.errors import UsageError
from trec_cli.core.files import PANEL, Examples, Items, Run, Seed
from trec_cli.core.jsonl import is_stream
from trec_cli.core.options import Option, check_choice
from trec_cli.core.records import ANSWERED, PREDICT, SPLITS

DEFAULT_KS = (3, 5, 10)
Family = Literal["standard", "all", "mind"]
"""Sets of metrics."""
NUMBERS = "Numbers"
STUDIES = "Studies: many arms run and compared by one command"


@dataclass(frozen=True)
class Options:
    """Everything that decides the numbers, besides the scores."""

    ks: Annotated[
        tuple[int, ...],
        Option(
            "Cut-off; may be given several times.",
            panel=NUMBERS,
            names=("--k",),
            minimum=1,
            default_text="3, 5, 10",
        ),
    ] = DEFAULT_KS
    replicates: Annotated[
        int,
        Option("Resamples for the intervals.", panel=NUMBERS, names=("--bootstrap",), minimum=0),
    ] = 1000
    permutations: Annotated[
        int, Option("Sign patterns of the paired test.", panel=NUMBERS, minimum=0)
    ] = 10_000
    seed: Seed = 0
    reference: Annotated[
        str | None,
        Option(
            "Compare all with this system.", panel=NUMBERS, default_text="blend, else the first"
        ),
    ] = None
    pool: Annotated[
        bool,
        Option(
            "Pool scores-NAME@SEED.jsonl into system NAME.",
            panel=NUMBERS,
            names=("--pool/--no-pool",),
        ),
    ] = True
    slice_by: Annotated[
        tuple[str, ...],
        Option(
            "Slice by this attribute of the right item, too; may be given several times.",
            panel=NUMBERS,
            repeatable=True,
        ),
    ] = ()

    missed: Annotated[
        Literal["refuse", "count"],
        Option(
            "A positive that is not among the candidates: refuse the file, or count it as a "
            "miss (every metric 0).",
            panel=NUMBERS,
        ),
    ] = "refuse"
    full: Annotated[
        bool,
        Option(
            "Candidates are the best of the whole catalogue (its size: items.jsonl, or the "
            "field catalogue of the scores), and may differ between systems.",
            panel=NUMBERS,
            names=("--full",),
            default_text="no",
        ),
    ] = False

    common: Annotated[
        bool,
        Option(
            "Compare on the examples that all systems have answered, where some have answered "
            "more.",
            panel=NUMBERS,
            names=("--common",),
            default_text="no",
        ),
    ] = False

    metrics: Annotated[
        Family,
        Option(
            "standard: recall, MRR, NDCG at K, and AUC; all: also hit rate, precision and MAP at "
            "K; mind: AUC, MRR over all positives, NDCG@5 and NDCG@10, as MIND's leaderboard.",
            panel=NUMBERS,
        ),
    ] = "standard"
    beyond: Annotated[
        bool,
        Option(
            "Also measure coverage, Gini, novelty and diversity of the lists; needs items.jsonl.",
            panel=NUMBERS,
            names=("--beyond",),
            default_text="no",
        ),
    ] = False
    corrected: Annotated[
        bool,
        Option(
            "Estimate the metrics of the whole catalogue from ranks among uniformly drawn "
            "negatives (Krichene and Rendle 2020); needs items.jsonl.",
            panel=NUMBERS,
            names=("--corrected",),
            default_text="no",
        ),
    ] = False
    audit: Annotated[
        bool,
        Option(
            "Measure how well the right answer is told without the user; needs examples.jsonl.",
            panel=NUMBERS,
            names=("--audit/--no-audit",),
        ),
    ] = True

    def __post_init__(self) -> None:
        """Put cut-offs in order, and drop what is given twice.

        Raises:
            UsageError: cut-offs are given for metrics that have their own.
        """
        if self.metrics == "mind" and tuple(self.ks) != DEFAULT_KS:
            raise UsageError("--metrics mind has its own cut-offs: leave out --k")
        if self.corrected and (self.full or self.metrics != "standard"):
            raise UsageError("--corrected estimates the standard metrics of sampled candidates")
        object.__setattr__(self, "ks", tuple(sorted(set(self.ks))))
        object.__setattr__(self, "slice_by", tuple(dict.fromkeys(self.slice_by)))

    def recorded(self) -> dict[str, Any]:
        """Return what a manifest holds: later additions only where they are not the default."""
        settings, defaults = asdict(self), asdict(Options())
        first = ("ks", "replicates", "permutations", "seed", "reference", "pool", "slice_by")
        return {
            name: value
            for name, value in settings.items()
            if name in first or value != defaults[name]
        }


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Which study to run, and how."""

    study: Annotated[
        Path | None,
        Option("Run the arms of this TOML file; --out holds its work.", panel=STUDIES),
    ] = None
    changes: Annotated[
        tuple[str, ...],
        Option(
            "KEY=VALUE in place of what the study says, like train.epochs=1; repeatable.",
            panel=STUDIES,
            names=("--set",),
            repeatable=True,
        ),
    ] = ()
    arms: Annotated[
        tuple[str, ...],
        Option(
            "Run and compare only this arm; repeatable.",
            panel=STUDIES,
            names=("--arm",),
            repeatable=True,
            default_text="all",
        ),
    ] = ()
    jobs: Annotated[
        int,
        Option(
            "Commands of the study at once; each has its share of the cores, and one GPU.",
            panel=STUDIES,
            minimum=1,
        ),
    ] = 1


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Every option of ``trec eval``."""

    run: Run = None
    verify: Annotated[
        bool,
        Option(
            "Evaluate nothing: follow the manifests in RUN back to the raw input and say what "
            "has changed since.",
            panel="What to do",
            names=("--verify",),
            default_text="no",
        ),
    ] = False
    exposure: Annotated[
        Path | None,
        Option(
            "Evaluate no answers: estimate from this log of what was shown (JSONL; docs/eval.md) "
            "what the first K of every list would have earned (SNIPS).",
            panel="What to do",
        ),
    ] = None
    clip: Annotated[
        float | None,
        Option(
            "With --exposure: cut weights above this.",
            panel="What to do",
            minimum=1,
            default_text="none",
        ),
    ] = None
    scores: Annotated[
        tuple[Path, ...],
        Option(
            "A scores file; may be given several times; - is stdin.",
            panel=PANEL,
            default_text="every scores-NAME.jsonl in RUN",
        ),
    ] = ()
    items: Items = None
    examples: Examples = None
    out: Annotated[
        Path | None,
        Option("Folder to write into.", panel=PANEL, names=("--out", "-o"), default_text="RUN"),
    ] = None
    markdown: Annotated[Path | None, Option("Also write the table as Markdown.", panel=PANEL)] = (
        None
    )
    latex: Annotated[
        Path | None, Option("Also write the table as LaTeX, for booktabs.", panel=PANEL)
    ] = None
    csv: Annotated[Path | None, Option("Also write the table as CSV.", panel=PANEL)] = None
    trec_run: Annotated[
        Path | None, Option("Also write runs for trec_eval into this folder.", panel=PANEL)
    ] = None
    report: Annotated[
        bool, Option("Write report.html.", panel=PANEL, names=("--report/--no-report",))
    ] = True
    title: Annotated[
        str, Option("Title of report.html.", panel=PANEL, default_text="Ranking report")
    ] = ""
    columns: Annotated[
        tuple[str, ...],
        Option(
            "Show only this column in tables, such as ndcg@10 or 'tie rate'; may be given "
            "several times.",
            panel=PANEL,
            names=("--column",),
            default_text="all",
            repeatable=True,
        ),
    ] = ()
    intervals: Annotated[
        bool,
        Option("Show intervals in tables.", panel=PANEL, names=("--intervals/--no-intervals",)),
    ] = True
    split: Annotated[str, Option("train, valid or test.", panel=NUMBERS)] = "test"
    slices: Annotated[
        bool,
        Option(
            "Show the table of slices, too.",
            panel=NUMBERS,
            names=("--slices",),
            default_text="no",
        ),
    ] = False
    numbers: Options = field(default_factory=Options)
    studies: StudyOptions = field(default_factory=StudyOptions)

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            UsageError: saying what, and what to do instead.
        """
        if self.out is not None and is_stream(self.out):
            raise UsageError("trec eval writes several files: name a folder with --out")
        if self.examples is not None and is_stream(self.examples):
            raise UsageError("trec eval reads only scores from standard input: --scores -")
        if self.clip is not None and self.exposure is None:
            raise UsageError("--clip is for --exposure")
        if self.exposure is not None:
            check_choice("--split", self.split, SPLITS)
            return
        if self.split == PREDICT:
            raise UsageError("--split predict has no answers yet; there is nothing to evaluate")
        check_choice("--split", self.split, ANSWERED)
        tables = (self.markdown, self.latex, self.csv, self.trec_run)
        if any(path is not None and is_stream(path) for path in tables):
            raise UsageError(
                "--markdown, --latex, --csv and --trec-run cannot go to standard output"
            )
