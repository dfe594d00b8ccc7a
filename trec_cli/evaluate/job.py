"""One evaluation, from its options to its files: what the command and the Python API run."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import Provenance
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.records import Split
from trec_cli.core.runs import RunFolder
from trec_cli.evaluate.outputs import (
    Plan,
    check_slices,
    draw_tables,
    find_files,
    finished,
    load,
    read_summary,
    write,
)
from trec_cli.evaluate.results import Blind, Summary
from trec_cli.evaluate.scores import System, at_hand
from trec_cli.evaluate.settings import EvalOptions
from trec_cli.evaluate.sources import Sources

Auditor = Callable[[Sources, System, Split, int, Progress], Blind | None]
"""Measures how well the right answers are told without the user (:mod:`trec_cli.audit`)."""


class EvalJob:
    """The scores files of an evaluation, and what is to be made of them.

    Attributes:
        plan: files to read and to write.
        left_out: scores files of RUN that are of another split.
    """

    def __init__(self, options: EvalOptions, progress: Progress) -> None:
        """Find the files; nothing is read yet.

        Raises:
            InputError: there is no scores file.
            UsageError: the options contradict each other or ask for what cannot be made.
        """
        options.check()
        self._progress = progress
        split = cast(Split, options.split)
        files = find_files(options.run, options.scores, split)
        self.plan = Plan(
            files=files,
            split=split,
            options=options.numbers,
            folder=options.out or options.run,
            markdown=options.markdown,
            latex=options.latex,
            csv=options.csv,
            trec_run=options.trec_run,
            sources=Sources.find(
                options.run,
                options.items,
                options.examples,
                [file.path for file in files if not is_stream(file.path)],
                options.out,
            ),
            report=options.report and (options.out or options.run) is not None,
            title=options.title,
            columns=options.columns,
            intervals=options.intervals,
        )
        self.plan.check(slices=options.slices)
        kept = {file.path for file in files}
        of_run = options.run if options.run and not options.scores else None
        self.left_out: list[Path] = [
            path for path in (RunFolder(of_run).all_scores() if of_run else []) if path not in kept
        ]

    def look(self) -> list[System]:
        """Read and check everything; write nothing."""
        with at_hand(self.plan.files) as files:
            return load(replace(self.plan, files=files), self._progress)

    def run(self, audit: Auditor, *, overwrite: bool = False) -> tuple[Summary, bool]:
        """Evaluate, unless that is done; return the summary, and whether it was made.

        Args:
            audit: asked where the plan wants one and examples are at hand.
            overwrite: replace results that were made with other options.

        Raises:
            InputError: a file is at fault, or systems answer different questions.
            SettingsChanged: there are results of other options, and not ``overwrite``.
        """
        plan = self.plan
        with locked(plan.folder / "metrics.json") if plan.folder else nullcontext():
            # Hashing takes a while; where only a table is printed nothing is to be accounted for.
            inputs = plan.inputs() if plan.outputs() else []
            provenance = Provenance("eval", plan.settings(), inputs)
            if self._finished(provenance, overwrite=overwrite) and plan.folder:
                summary = read_summary(plan.folder)
                drawn = draw_tables(plan, summary, provenance, overwrite=overwrite)
                if drawn:
                    self._progress.info(f"wrote {', '.join(map(str, drawn))}")
                return summary, bool(drawn)
            with at_hand(plan.files) as files:
                systems = load(replace(plan, files=files), self._progress)
                blind = self._audited(audit, systems[0])
                return write(plan, systems, provenance, self._progress, blind), True

    def _finished(self, provenance: Provenance, *, overwrite: bool) -> bool:
        """Check for results; what could not be made in their place is told first."""
        try:
            return finished(self.plan, provenance, overwrite=overwrite)
        except SettingsChanged:
            check_slices(self.plan)
            raise

    def _audited(self, audit: Auditor, system: System) -> Blind | None:
        plan = self.plan
        if not plan.options.audit or plan.sources.examples is None:
            return None
        return audit(plan.sources, system, plan.split, plan.options.seed, self._progress)
