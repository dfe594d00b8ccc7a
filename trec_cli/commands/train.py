"""``trec train``: examples and summaries become a LoRA adapter."""

from typing import TYPE_CHECKING

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.commands.preview import show_bill, show_prompt, show_refusal
from trec_cli.core.files import require
from trec_cli.core.jsonl import is_stream
from trec_cli.core.runs import RunFolder
from trec_cli.models.processes import Processes
from trec_cli.prompts.settings import adapter_name
from trec_cli.train.settings import TrainOptions

if TYPE_CHECKING:
    from trec_cli.train.job import TrainingJob
    from trec_cli.train.run import Outcome


@command("train", TrainOptions, streams=False, speaks=lambda: Processes.here().is_main)
def train(options: TrainOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Train a LoRA adapter that answers whether a user will choose a candidate.

    Splits train and valid of the examples are used. Killed, the same command continues from
    the last checkpoint and ends with the same adapter.

    [bold]trec train runs/sample --mode hier --epochs 3[/]

    [bold]torchrun --nproc-per-node 2 -m trec_cli train runs/sample[/] for two GPUs.
    """
    options.check(invocation.typed)
    if options.training.quantize:
        from trec_cli.train.lora import check_quantization

        check_quantization(options.training.quantize)
    require(options.files().inputs)
    from trec_cli.core.progress import Silent
    from trec_cli.train.callbacks import check_trackers
    from trec_cli.train.job import TrainingJob

    check_trackers(options.trackers)
    processes = Processes.here()
    job = TrainingJob(options, processes, terminal if processes.is_main else Silent())
    if invocation.dry_run:
        _preview(job, terminal)
        refused = job.refusal(overwrite=invocation.overwrite)
        show_refusal(refused, TrainOptions, terminal)
        show_bill(options.plan, options.model, job.work(), len(job.prepared.data), terminal)
        return
    outcome = job.run(overwrite=invocation.overwrite)
    if outcome is None:
        terminal.info(f"{job.files.out} is finished already; nothing to do")
    elif processes.is_main:
        _report(job, outcome, terminal)
    terminal.result(out=str(job.files.out), done_before=outcome is None)
    if options.merge and processes.is_main:
        _merge(job, terminal, overwrite=invocation.overwrite)


def _report(job: "TrainingJob", outcome: "Outcome", terminal: Terminal) -> None:
    best = outcome.best
    if best is None:
        terminal.info("kept the adapter of the last step: there was no validation")
    else:
        shown = ", ".join(f"{name} {best[name]:.3f}" for name in ("loss", "recall@3", "mrr@10"))
        terminal.info(f"kept the adapter of step {best['step']}: validation {shown}")
    terminal.info(f"wrote {job.files.out}{_next(job)}")
    terminal.result(**outcome.details())


def _next(job: "TrainingJob") -> str:
    """Write the command that scores with the adapter: in its RUN it is found by its name."""
    files, mode, ask = job.files, job.options.mode, job.options.prompt.ask
    if is_stream(files.examples):
        return ""
    run = RunFolder(files.examples.parent)
    asked = "" if ask == "answer" else f" --ask {ask}"
    here = run.adapter(adapter_name(mode, ask)) == files.out
    named = asked if here else f" --adapter {files.out}"
    return f"; next: trec score {run.path} --mode {mode}{named}"


def _merge(job: "TrainingJob", terminal: Terminal, *, overwrite: bool) -> None:
    from trec_cli.train.publish import merge_adapter, merged_folder

    folder = merged_folder(job.files.out)
    if merge_adapter(job.source, job.files.out, overwrite=overwrite):
        terminal.info(f"wrote {folder}: full weights, for --model or any server")
    else:
        terminal.info(f"{folder} is finished already; nothing to do")
    terminal.result(merged=str(folder))


def _preview(job: "TrainingJob", terminal: Terminal) -> None:
    """Show a prompt with its label, tokens per part, and what a run costs."""
    show_prompt(job.describe(), terminal)
    facts = job.cost()
    for name, value in facts.items():
        terminal.info(f"{name}: {value}")
    terminal.info(f"dry run: nothing was written; would write {job.files.out}")
    terminal.result(dry_run=True, **facts)
