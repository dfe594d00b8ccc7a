"""``trec eval --study``: run the arms of a study and compare them."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from trec_cli.commands.build import Invocation
from trec_cli.commands.console import Terminal
from trec_cli.core.errors import PartialError, UsageError
from trec_cli.core.outputs import locked
from trec_cli.evaluate.settings import EvalOptions

if TYPE_CHECKING:
    from trec_cli.evaluate.results import Summary
    from trec_cli.study.launch import Crew
    from trec_cli.study.plan import Arm, Study
    from trec_cli.study.runner import StudyOutcome
    from trec_cli.study.steps import Step

OWN_OPTIONS = {
    "study", "set", "arm", "jobs", "out", "dry_run",
    "overwrite", "quiet", "json", "debug", "config", "preset",
}  # fmt: skip
"""Parameters of ``trec eval`` that go with ``--study``; the others stand in its ``[eval]``."""


def refuse_others(invocation: Invocation) -> None:
    """Refuse options that the study file decides.

    Raises:
        UsageError: naming one.
    """
    for name in invocation.context.params:
        if name in invocation.typed - OWN_OPTIONS:
            shown = "RUN" if name == "run" else "--" + name.replace("_", "-")
            raise UsageError(
                f"{shown} does not go with --study: the study file decides it "
                "(its [eval] table holds options of trec eval)"
            )


def run_study(
    options: EvalOptions,
    invocation: Invocation,
    terminal: Terminal,
    show: Callable[["Summary"], None],
) -> None:
    """Run a study, or some of its arms; ``show`` prints the table of their comparison.

    Raises:
        PartialError: arms failed; the others are done and compared.
    """
    from trec_cli.study.plan import read_study
    from trec_cli.study.results import check_folder
    from trec_cli.study.steps import evaluation_arguments, steps_of

    refuse_others(invocation)
    asked, out = options.studies, options.out
    if out is None or asked.study is None:
        raise UsageError("--study needs --out FOLDER, where all of its work and results go")
    study = read_study(asked.study, asked.changes, asked.arms)
    steps = steps_of(study, out)
    context = invocation.context
    for arm, its in steps.items():
        for step in its:
            _check_options(context, f"arm {arm}, trec", step.arguments)
    _check_options(context, "trec", evaluation_arguments(study, out, [], study.arms[0]))
    if not invocation.overwrite:
        _refuse_others_output(steps)
    if invocation.dry_run:
        _list(study, steps, terminal)
        return
    with locked(out / "study.json"):
        check_folder(out, overwrite=invocation.overwrite)
        outcome = _run(study, steps, out, invocation, terminal, jobs=asked.jobs, show=show)
    _complain(outcome, len(study.arms))


def _check_options(context: typer.Context, whose: str, arguments: Sequence[str]) -> None:
    """Parse the options of a command before anything is run.

    Raises:
        UsageError: naming whose command it is, and what is wrong.
    """
    root = context.find_root()
    commands: dict[str, Any] = getattr(root.command, "commands", {})
    stage, *words = arguments
    try:
        commands[stage].make_context(stage, list(words), parent=root)
    except Exception as error:
        explain = getattr(error, "format_message", None)
        if explain is None:
            raise
        raise UsageError(f"{whose} {stage}: {explain()}") from None


def _refuse_others_output(steps: Mapping[str, "list[Step]"]) -> None:
    """Refuse, now and not after hours, output that another command has made.

    Raises:
        UsageError: naming the first one.
    """
    from trec_cli.study.runner import made_otherwise

    for arm, its in steps.items():
        for step in its:
            if made_otherwise(step):
                raise UsageError(
                    f"arm {arm}: {step.output} was made by another command than "
                    f"trec {shlex.join(step.arguments)}. The study has changed: give another "
                    "--out, or --overwrite to make again all that has changed."
                )


def _list(study: "Study", steps: Mapping[str, "list[Step]"], terminal: Terminal) -> None:
    """List what a run would do, each command once."""
    from trec_cli.study.runner import open_steps
    from trec_cli.study.steps import Step

    states, owners = dict(open_steps(steps)), dict[Step, str]()
    for arm in study.arms:
        terminal.info(f"{arm.name}:")
        for step in steps[arm.name]:
            state = "done" if states[step] else "to do"
            command = f"[{state}] trec {shlex.join(step.arguments)}"
            if step in owners:
                command = f"[shared] trec {step.arguments[0]} of {owners[step]}"
            owners.setdefault(step, arm.name)
            terminal.info(f"  {command}")
    left = sum(not done for done in states.values())
    terminal.info(f"dry run: {len(states)} commands for {len(study.arms)} arms, {left} to do")
    commands = [list(step.arguments) for step in states]
    terminal.result(dry_run=True, commands=commands, to_do=left)


def _run(
    study: "Study",
    steps: Mapping[str, "list[Step]"],
    out: Path,
    invocation: Invocation,
    terminal: Terminal,
    *,
    jobs: int,
    show: Callable[["Summary"], None],
) -> "StudyOutcome":
    """Run all steps, then compare the arms that have scores."""
    from trec_cli.study.launch import Crew
    from trec_cli.study.results import write_results
    from trec_cli.study.runner import Runner

    hire = partial(Crew, say=partial(typer.echo, err=True), quiet=invocation.quiet)
    outcome = Runner(steps, hire(jobs), terminal, overwrite=invocation.overwrite).run()
    arms = [arm for arm in study.arms if arm.name not in outcome.failed]
    compared = partial(_compare, study, out=out, crew=hire(1), terminal=terminal)
    widest = [arm for arm in arms if arm in study.widest]
    summary = compared(widest) if widest else None
    common = compared(arms, common=True) if arms != widest else None
    files = write_results(study, dict(steps), outcome, summary, out, common)
    terminal.info(f"wrote {', '.join(map(str, files))}")
    failed = sorted(outcome.failed)
    terminal.result(**(summary or {}), outputs=[str(file) for file in files], failed=failed)
    for found in filter(None, (summary, common)):
        show(found)
    return outcome


def _compare(
    study: "Study",
    arms: Sequence["Arm"],
    *,
    out: Path,
    crew: "Crew",
    terminal: Terminal,
    common: bool = False,
) -> "Summary":
    """Run ``trec eval`` over arms that have scores; ``common`` on what all have answered.

    Raises:
        PartialError: it failed.
    """
    from trec_cli.evaluate.outputs import read_summary
    from trec_cli.study.steps import COMMON, evaluation_arguments, scores_of

    reference = next((arm for arm in arms if arm.name == study.reference), arms[0])
    if reference.name != study.reference:
        terminal.warn(f"{study.reference} has no scores: compared with {reference.name} instead")
    scores = [path for arm in arms for path in scores_of(arm, out)]
    words = evaluation_arguments(study, out, scores, reference, common=common)
    # What it writes is made anew each time: the arms, the reference or trec may have changed.
    crew.start("eval", [*words, "--overwrite"])
    _, ending = crew.wait()
    if ending.code:
        raise PartialError(f"all arms are scored, but trec eval failed: {ending.message}")
    return read_summary(out / COMMON if common else out)


def _complain(outcome: "StudyOutcome", number: int) -> None:
    if outcome.failed:
        told = "; ".join(f"{name}: {failure}" for name, failure in outcome.failed.items())
        others = "The others are done; the" if len(outcome.failed) < number else "The"
        raise PartialError(
            f"{len(outcome.failed)} of {number} arms failed ({told}). "
            f"{others} same command tries the failed ones again."
        )
