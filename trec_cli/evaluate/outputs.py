"""The files of one evaluation: which scores go in, which files come out, whether they are new."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from trec_cli.core.attributes import check_attributes
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.files import check_folder
from trec_cli.core.json_file import read_json
from trec_cli.core.jsonl import is_stream, read_items
from trec_cli.core.manifest import Provenance, read_manifest, recorded_settings, up_to_date
from trec_cli.core.options import check_choice
from trec_cli.core.outputs import Settings, plain_settings, write_bytes
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.records import Split
from trec_cli.core.runs import RunFolder, system_name, told_apart
from trec_cli.core.text import counted
from trec_cli.evaluate.background import read_background
from trec_cli.evaluate.metrics import metric_names
from trec_cli.evaluate.paper import as_csv, latex, markdown
from trec_cli.evaluate.results import (
    Blind,
    Evaluation,
    Summary,
    audit_entry,
    evaluate_systems,
    measure_of,
    per_user_lines,
    pool_runs,
    summarise,
    too_few_permutations,
)
from trec_cli.evaluate.scores import (
    ScoresFile,
    ScoresLine,
    System,
    align,
    holds_split,
    in_common,
    read_scores,
    read_system,
)
from trec_cli.evaluate.settings import Options
from trec_cli.evaluate.slices import find_slices, slice_entries
from trec_cli.evaluate.sources import Sources
from trec_cli.evaluate.tables import TIE_RATE, selected

AS_SCORES = "give it as --scores FILE"


def find_files(run: Path | None, scores: Sequence[Path], split: Split = "test") -> list[ScoresFile]:
    """Return the scores files that were named, or else all in RUN that have examples of ``split``.

    Where two files give the same name, the names get their folders in front.

    Raises:
        UsageError: nothing is named, ``-`` twice, or names that still clash.
        InputError: RUN holds no scores file, or is no folder.
    """
    if not scores and run is None:
        raise UsageError("give the RUN folder, or name scores files with --scores")
    if not scores and run is not None:
        check_folder(run, AS_SCORES)
    paths = list(scores) or _of_split(RunFolder(run or Path()).all_scores(), split)
    if not paths:
        fix = "run trec score first, or name files with --scores"
        raise InputError.of(run, "holds no scores-NAME.jsonl", fix)
    if sum(map(is_stream, paths)) > 1:
        raise UsageError("standard input (--scores -) can be read only once")
    lists = [path for path in paths if path.name.startswith("recommendations-")]
    if lists:
        raise UsageError(
            f"{lists[0]} holds lists without answers, no scores: estimate with --exposure LOG what "
            "they earn, or score the questions of a split that has answers"
        )
    names = ["stdin" if is_stream(path) else system_name(path) for path in paths]
    names = told_apart(names, paths)
    if len(set(names)) < len(names):
        raise UsageError(f"two scores files have the same name: {', '.join(map(str, paths))}")
    return [ScoresFile(name, path) for name, path in zip(names, paths, strict=True)]


def _of_split(paths: Sequence[Path], split: Split) -> list[Path]:
    """Leave out files without an example of ``split``, unless that leaves none."""
    kept = [path for path in paths if holds_split(path, split)]
    return kept or list(paths)


@dataclass(frozen=True)
class Plan:
    """What to evaluate and what to write.

    Attributes:
        files: the scores.
        split: the examples to look at.
        options: what decides the numbers.
        folder: of `metrics.json` and its companions; None writes none of them.
        markdown, latex, csv: files of the table, if wanted.
        trec_run: folder of the export, if wanted.
        sources: what slices and report are made from, where it is there.
        report: whether to write the page.
        title: of the page; empty for a general one.
        columns: metrics of the tables; empty for all.
        intervals: whether tables have intervals.
    """

    files: list[ScoresFile]
    split: Split = "test"
    options: Options = field(default_factory=Options)
    folder: Path | None = None
    markdown: Path | None = None
    latex: Path | None = None
    csv: Path | None = None
    trec_run: Path | None = None
    sources: Sources = field(default_factory=Sources)
    report: bool = False
    title: str = ""
    columns: tuple[str, ...] = ()
    intervals: bool = True

    def check(self, *, slices: bool) -> None:
        """Refuse slices and columns that cannot be made, and a reference that is no system.

        Raises:
            UsageError: the files that they need are not there, or a column is no metric.
        """
        check_reference(self.options, self.files)
        known = [*metric_names(self.options.ks, self.options.metrics), TIE_RATE]
        for name in self.columns:
            check_choice("--column", name, known)
        if slices and not self.sources.examples:
            raise UsageError("--slices needs examples.jsonl: give RUN, or --examples")
        if self.options.beyond and not self.sources.items:
            raise UsageError("--beyond needs items.jsonl: give RUN, or --items")
        if self.options.slice_by and not (self.sources.items and self.sources.examples):
            raise UsageError(
                "--slice-by needs items.jsonl and examples.jsonl: give RUN, or --items and "
                "--examples"
            )

    def sampled_from(self) -> int | None:
        """Return the size of the catalogue that negatives were drawn from, for estimates.

        Raises:
            UsageError: estimates are asked for, and the size is not known or the draw was not
                uniform.
        """
        if not self.options.corrected:
            return None
        made = self.sources.candidates()
        if made not in (None, "uniform"):
            raise UsageError(f"--corrected is for uniformly drawn negatives; these are {made}")
        return self.sources.catalogue_size()

    def inputs(self) -> list[Path]:
        """Name every file that decides the outputs' bytes."""
        known = [path for path in (self.sources.items, self.sources.examples) if path]
        more = self.sources.files() if self.report else known
        blind = self.sources.blind if self.options.audit and self.sources.examples else []
        return list(dict.fromkeys([*(file.path for file in self.files), *more, *blind]))

    def settings(self) -> dict[str, Any]:
        """Return what decides the results' bytes, besides the inputs' content."""
        systems = [file.name for file in self.files]
        titled: dict[str, Any] = {"title": self.title} if self.title else {}
        numbers = plain_settings(self.options.recorded())
        return {"split": self.split, "systems": systems, **titled, **numbers}

    def table_settings(self) -> dict[str, Any]:
        """Return what decides the tables' bytes: they are drawn anew without new numbers."""
        columns: dict[str, Any] = {"columns": list(self.columns)} if self.columns else {}
        bounds = {} if self.intervals else {"intervals": False}
        return {**self.settings(), **columns, **bounds}

    def results(self) -> list[Path]:
        """Name every file that holds numbers of its own."""
        names = [file.name for file in self.files]
        runs = run_paths(self.trec_run, names) if self.trec_run else []
        folder = RunFolder(self.folder) if self.folder else None
        main = [folder.metrics, folder.per_user] if folder else []
        page = [folder.report] if folder and self.report else []
        return [*main, *page, *runs]

    def tables(self) -> list[Path]:
        """Name the files of tables, which are drawn from `metrics.json`."""
        return [path for path, _ in self._drawings()]

    def draw(self, summary: Summary) -> dict[Path, str]:
        """Write out the tables, by file."""
        chosen = selected(summary, self.columns, intervals=self.intervals)
        return {path: draw(chosen) for path, draw in self._drawings()}

    def _drawings(self) -> list[tuple[Path, Callable[[Summary], str]]]:
        wanted = [(self.markdown, markdown), (self.latex, latex), (self.csv, as_csv)]
        return [(path, draw) for path, draw in wanted if path]

    def outputs(self) -> list[Path]:
        """Name every file that will be written."""
        return [*self.results(), *self.tables()]


def finished(plan: Plan, provenance: Provenance, *, overwrite: bool) -> bool:
    """Check whether all results exist and were made by this plan from these inputs.

    New or changed scores make an evaluation stale, which is no conflict: it is made again.

    Raises:
        SettingsChanged: a result or table was made with other options, or not by trec, and not
            ``overwrite``.
    """
    current = _are_current(plan.results(), provenance.settings, overwrite=overwrite)
    drawn = {**provenance.settings, **plan.table_settings()}
    _are_current(plan.tables(), drawn, overwrite=overwrite)  # refused now, not after the work
    piped = any(is_stream(file.path) for file in plan.files)
    return plan.folder is not None and current and not piped


def draw_tables(
    plan: Plan, summary: Summary, provenance: Provenance, *, overwrite: bool, remake: bool = False
) -> list[Path]:
    """Write the tables that were asked for, and return their paths; none that is up to date.

    ``remake`` says that the numbers are new.
    """
    tables = plan.tables()
    if not tables:
        return []
    drawn = Provenance("eval", plan.table_settings(), plan.inputs(), provenance.inputs)
    if _are_current(tables, drawn.settings, overwrite=overwrite) and not remake:
        return []
    with drawn.publish(*tables) as details:
        details["examples"] = next(iter(summary["systems"].values()))["examples"]
        for path, text in plan.draw(summary).items():
            write_bytes(path, [text.encode()])
    return tables


def _are_current(outputs: Sequence[Path], settings: Settings, *, overwrite: bool) -> bool:
    """Check every output, so that each may be refused."""
    current = [_is_current(path, settings, overwrite=overwrite) for path in outputs]
    return all(current)


_RESULTS = ("metrics.json", "per_user.jsonl", "report.html")
_LOOKS = ("columns", "intervals")


def _is_current(output: Path, settings: Settings, *, overwrite: bool) -> bool:
    """Check whether an output is as these settings make it; the scores may be others."""
    old = recorded_settings(output) or {}
    derived = {name: old.get(name) for name in ("inputs", "systems")}
    if output.name in _RESULTS:  # in those of earlier versions stands how tables were to look
        settings = {**{name: old[name] for name in _LOOKS if name in old}, **settings}
    known = up_to_date(output, {**settings, **derived}, overwrite=overwrite)
    return known and all(settings[name] == value for name, value in derived.items())


def check_reference(options: Options, files: Sequence[ScoresFile]) -> None:
    """Refuse a reference that is no system.

    Raises:
        UsageError: naming those there are, or because names of runs clash.
    """
    names = list(pool_runs([file.name for file in files], pool=options.pool))
    reference = options.reference
    if reference is not None and reference not in names:
        raise UsageError(f"--reference {reference!r} is none of the systems: {', '.join(names)}")


def check_slices(plan: Plan) -> None:
    """Refuse attributes that no item has.

    Raises:
        UsageError: naming them, and those there are.
    """
    if plan.options.slice_by and plan.sources.items:
        check_attributes(plan.options.slice_by, read_items(plan.sources.items), "--slice-by")


def load(plan: Plan, progress: Progress | None = None) -> list[System]:
    """Read all runs and align them.

    Raises:
        InputError: faults in a file, or systems that answer different questions.
        UsageError: the reference is none of the systems, names of runs clash, or the size of
            the catalogue is needed and not known.
    """
    check_reference(plan.options, plan.files)
    count = plan.options.missed == "count"
    systems = [read_system(file, plan.split, progress, count_missed=count) for file in plan.files]
    if plan.options.common:
        most = max(len(system.users) for system in systems)
        systems = in_common(systems)
        if progress and len(systems[0].users) < most:
            progress.info(
                f"compared on {len(systems[0].users):,} of {counted(most, 'example')} (--common)"
            )
    if plan.options.full and not all(system.ranks_catalogue.all() for system in systems):
        size = plan.sources.catalogue_size()
        systems = [system.ranking(size) for system in systems]
    return align(systems)


def write(
    plan: Plan,
    systems: Sequence[System],
    provenance: Provenance,
    progress: Progress | None = None,
    blind: Blind | None = None,
) -> Summary:
    """Evaluate, write every output with its manifest, and return the summary.

    ``blind`` is what an audit has found of the same questions.
    """
    options = plan.options
    size = plan.sampled_from()
    evaluation = evaluate_systems(
        systems, options.ks, pool=options.pool, family=options.metrics, catalogue=size
    )
    summary = {"split": plan.split, **summarise(evaluation, plan.options, progress)}
    summary["protocol"] = protocol(plan, evaluation)
    if blind:
        measure = measure_of(options.ks, options.metrics, size)
        summary["audit"] = audit_entry(evaluation, blind, options, measure)
    for note in (*cautions(summary), *(blind.warnings if blind else ())):
        (progress or Silent()).warn(note)
    if advice := too_few_permutations(summary, plan.options.permutations):
        (progress or Silent()).warn(advice)
    summary |= _slices(plan, evaluation, progress or Silent())
    summary |= _beyond(plan, systems)
    written = list[Path]()
    with provenance.publish(*plan.results()) as details:
        details["examples"] = len(systems[0].users)
        if plan.trec_run:
            written += export(plan.trec_run, [s.file for s in systems], plan.split)
            if old := left_over(plan.trec_run, [s.file.name for s in systems]):
                names = ", ".join(path.name for path in old)
                (progress or Silent()).warn(f"{names}: left from an earlier evaluation")
        if plan.folder:
            folder = RunFolder(plan.folder)
            if plan.report:
                from trec_cli.evaluate.report import render  # loads the charts' library

                page = render(evaluation, summary, plan.sources, provenance, plan.title)
                write_bytes(folder.report, [page.encode()])
                written.append(folder.report)
            written += _main_files(folder, evaluation, summary)
    written += draw_tables(plan, summary, provenance, overwrite=True, remake=True)
    if written:
        (progress or Silent()).info(f"wrote {', '.join(map(str, written))}")
    return summary


def protocol(plan: Plan, evaluation: Evaluation) -> dict[str, Any]:
    """Describe what was ranked: how candidates were made, of how many, and what they miss.

    Systems that list the best of a catalogue may miss different positives: the total is that
    of the system that misses most, and every system has its own.
    """
    missed = {
        name: max(evaluation.runs[index].missed for index in runs)
        for name, runs in evaluation.members.items()
    }
    whole = any(run.ranks_catalogue.any() for run in evaluation.runs)
    widths = evaluation.runs[0].widths
    items = plan.sources.items
    stated = {
        "candidates": plan.sources.candidates(),
        "ranking": "catalogue" if whole else "candidates",
        "corrected": plan.options.corrected,
        "mean_candidates": float(widths.mean()),
        "fewest_candidates": int(widths.min()),
        "catalogue": plan.sources.catalogue_size() if items else None,
        "positives": int(evaluation.ranks[0].positives.sum()),
        "positives_missed": max(missed.values()),
        **({"missed_by_system": missed} if whole else {}),
    }
    for run in evaluation.runs:
        run.let_go()
    return stated


def cautions(summary: Summary) -> list[str]:
    """Return what must be known before the numbers are believed."""
    stated, said = summary["protocol"], []
    cutoffs = sorted({int(name.split("@")[1]) for name in summary["chance"] if "@" in name})
    if missed := stated["positives_missed"]:
        of = f"of {stated['positives']:,} positives"
        those = counted(missed, f"{of} is", f"{of} are")
        said.append(f"{those} not among the candidates and missed: every metric is 0 there")
    beyond = [k for k in cutoffs if k > stated["fewest_candidates"]]
    if missed and beyond:
        said.append(
            f"lists are as short as {stated['fewest_candidates']}: metrics at "
            f"{', '.join(map(str, beyond))} are lower bounds"
        )
    return said


def _slices(plan: Plan, evaluation: Evaluation, progress: Progress) -> Summary:
    """Measure slices where `examples.jsonl` is there.

    Raises:
        UsageError: an attribute that no item has.
    """
    sources, attributes = plan.sources, plan.options.slice_by
    if not sources.examples:
        return {}
    background = read_background(sources.examples, evaluation.runs[0], plan.split)
    if background.missing:
        of = f"of {counted(len(evaluation.examples), 'example')}"
        progress.warn(
            f"{counted(background.missing, f'{of} is', f'{of} are')} in no slice: not in "
            f"{sources.examples}, or with other positives there"
        )
    items = read_items(sources.items) if attributes and sources.items else {}
    if attributes:
        check_attributes(attributes, items, "--slice-by")
    slices = find_slices(background, items, attributes)
    return {"slices": slice_entries(evaluation, slices, plan.options)}


def _beyond(plan: Plan, systems: Sequence[System]) -> Summary:
    """Measure what lists hold, where it is asked for."""
    options, sources = plan.options, plan.sources
    if not options.beyond or sources.items is None:
        return {}
    from trec_cli.evaluate.beyond import Shelf, beyond  # loads scipy

    shelf = Shelf(read_items(sources.items))
    if sources.examples:
        known = read_background(sources.examples, systems[0], plan.split)
        shelf = replace(shelf, takers=known.takers, users=known.users)
    files = [system.file for system in systems]
    return {"beyond": beyond(files, plan.split, shelf, max(options.ks), options.seed)}


def _main_files(folder: RunFolder, evaluation: Evaluation, summary: Summary) -> list[Path]:
    """Write `per_user.jsonl` and, last because it marks the end, `metrics.json`."""
    write_bytes(folder.per_user, per_user_lines(evaluation))
    body = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    write_bytes(folder.metrics, [body, b"\n"])
    return [folder.per_user, folder.metrics]


def read_summary(folder: Path) -> Summary:
    """Read `metrics.json` of a finished evaluation.

    Raises:
        InputError: it is damaged.
    """
    path = RunFolder(folder).metrics
    try:
        return read_json(path, dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError.of(
            path, f"is not what trec eval wrote: {error}", "make it again with --overwrite"
        ) from None


QRELS = "qrels.txt"


def run_paths(folder: Path, names: list[str]) -> list[Path]:
    """Name the files of an export: one run per system, then the judgements."""
    return [*(folder / f"{quote(name, safe=' ')}.run" for name in names), folder / QRELS]


def export(folder: Path, files: list[ScoresFile], split: Split) -> list[Path]:
    """Write the runs of systems that were read and aligned without fault.

    Fields are parted by blanks in these formats, so white space and ``%`` in ids and
    names are written as in a URL (``%20``).
    """
    *runs, qrels = run_paths(folder, [file.name for file in files])
    for path, file in zip(runs, files, strict=True):
        tag = _token(file.name)
        write_bytes(path, (_run(record, tag) for record in _records(file, split)))
    write_bytes(qrels, (_judgements(record) for record in _records(files[0], split)))
    return [*runs, qrels]


def left_over(folder: Path, names: list[str]) -> list[Path]:
    """Name runs of an earlier evaluation, whose judgements may have been others."""
    ours = set(run_paths(folder, names))
    return [path for path in sorted(folder.glob("*.run")) if path not in ours and _made(path)]


def _made(path: Path) -> bool:
    """Check whether ``trec eval`` has written a file."""
    return (read_manifest(path) or {}).get("command") == "eval"


def _records(file: ScoresFile, split: Split) -> Iterator[ScoresLine]:
    return (record for _, record in read_scores(file.path) if record.split == split)


def _token(text: str) -> str:
    return "".join(quote(c) if c.isspace() or c == "%" else c for c in text)


def _run(record: ScoresLine, tag: str) -> bytes:
    pairs = zip(record.candidates, record.scores, strict=True)
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    example = _token(record.example)
    lines = (
        f"{example} Q0 {_token(item)} {rank} {score!r} {tag}\n"
        for rank, (item, score) in enumerate(ranked, start=1)
    )
    return "".join(lines).encode()


def _judgements(record: ScoresLine) -> bytes:
    right, example = set(record.positives), _token(record.example)
    lines = (f"{example} 0 {_token(i)} {int(i in right)}\n" for i in record.candidates)
    return "".join(lines).encode()
