"""``trec summarize``: a preference summary for every example."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.commands.many import as_one_of_many, make_on_ray, merge_hint
from trec_cli.commands.preview import show_bill, show_refusal
from trec_cli.commands.show import show_user
from trec_cli.core.blocks import split_blocks
from trec_cli.core.cost import Work
from trec_cli.core.files import require, resolve
from trec_cli.core.jsonl import is_stream
from trec_cli.core.runs import RunFolder
from trec_cli.core.text import counted
from trec_cli.models.processes import Processes
from trec_cli.summarize.settings import SummarizeOptions

if TYPE_CHECKING:
    from trec_cli.summarize.job import ModelJob, SummaryJob

_MANY_REPLACED = 0.25
"""More texts that had to be replaced are worth a warning."""


@command("summarize", SummarizeOptions, speaks=lambda: Processes.here().is_main)
def summarize(options: SummarizeOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Write a preference summary for every example with a frozen language model.

    Histories are cut into blocks, oldest first. [b]hier[/b] summarises every block and merges
    the summaries; [b]recurrent[/b] updates one summary block by block; [b]attention[/b] lets the
    recent items or each candidate choose among the block summaries; [b]none[/b] writes empty
    ones. Every text is kept in a store, so the same command continues where it was stopped.

    Example: trec summarize runs/news --mode hier --model models/SmolLM2-135M-Instruct

    Print the tree of one user:

    [b]trec summarize runs/news --mode hier --show U147[/b]
    """
    options.check(invocation.typed)
    if options.show is not None:
        show_user(
            terminal,
            options.show,
            summaries=resolve(options.out, options.run, "summaries", options.mode),
            items=resolve(options.items, options.run, "items"),
            examples=resolve(options.examples, options.run, "examples"),
            as_json=invocation.json_line,
        )
        return
    if options.mode != "none" and options.engine == "ray" and not invocation.dry_run:
        make_on_ray(options, invocation, terminal)
        return
    with as_one_of_many(options, invocation, terminal) as own:
        _summarize(own, invocation, terminal)


def _summarize(options: SummarizeOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Summarise, in this process, what it was given."""
    files = options.files()
    require([files.items, files.examples])
    from trec_cli.summarize.job import make_job

    job = make_job(options, terminal)
    if invocation.dry_run:
        _preview(job, terminal)
        refused = job.refusal(overwrite=invocation.overwrite)
        show_refusal(refused, SummarizeOptions, terminal)
    else:
        _run(job, terminal, overwrite=invocation.overwrite)


def _run(job: "SummaryJob", terminal: Terminal, *, overwrite: bool) -> None:
    """Make the summaries, and tell what came of it."""
    from trec_cli.summarize.job import ModelJob

    out = job.files.out
    try:
        made = job.run(overwrite=overwrite)
    finally:  # what a run has cost is told of a run that failed, too
        terminal.result(**job.spent())
    if not is_stream(out):
        terminal.result(output=str(out), already_done=not made)
    if not made:
        terminal.info(f"{out} is there already, made with the same settings")
        return
    if isinstance(job, ModelJob):
        _tell_calls(terminal, job)
        _tell_quality(terminal, job)
    if job.written.earlier:
        terminal.info(
            f"the inputs have changed: {job.written.kept} summaries are as before, "
            f"{job.written.remade} were made again, {job.written.added} are new"
        )
    if not is_stream(out):
        terminal.info(f"wrote {out}{merge_hint(out) or _next(job)}")
    terminal.result(**job.details())


def _next(job: "SummaryJob") -> str:
    """Write the command that trains with the summaries: in its RUN they are found by name."""
    mode, examples = job.options.mode, job.files.examples
    if is_stream(examples):
        return ""
    run = RunFolder(examples.parent)
    named = "" if run.summaries(mode) == job.files.out else f" --summaries {job.files.out}"
    return f"; next: trec train {run.path} --mode {mode}{named}"


def _tell_calls(terminal: Terminal, job: "ModelJob") -> None:
    """Report what the run came to, and warn of what makes summaries doubtful."""
    counts, written, cuts = job.counts, job.written, job.writer.cuts
    if job.vectors:
        made, found = job.vectors.made, job.vectors.hits
        terminal.info(f"{counted(made, 'text')} embedded, {found:,} vectors found in the store")
    terminal.info(
        f"{counted(written.examples, 'summary', 'summaries')}: {counted(counts.calls, 'call')}, "
        f"{counts.hits:,} found in the store, {counts.shared:,} shared; "
        f"{counted(counts.prompt_tokens, 'token')} read, {counts.new_tokens:,} written "
        f"({counts.rate} a second)"
    )
    terminal.info(
        f"cut: {cuts.long_items} of {cuts.items} items at --item-tokens, {cuts.squeezed_items} "
        f"to fit the prompt, {cuts.long_summaries} summaries; "
        f"{counts.at_limit} of {counts.calls + counts.hits} texts met their length limit"
    )
    if counts.empty or written.empty_summaries:
        terminal.warn(
            f"{counted(counts.empty, 'text is', 'texts are')} empty; "
            f"{counted(written.empty_summaries, 'example has', 'examples have')} an empty "
            "summary although they have a history"
        )
    if counts.echoes:
        only = counted(counts.echoes, "text only repeats", "texts only repeat")
        terminal.warn(f"{only} a piece of the prompt")


def _tell_quality(terminal: Terminal, job: "ModelJob") -> None:
    """Report how good the summaries are, and how many texts were mended or replaced."""
    counts = job.counts
    terminal.info(f"quality: {job.audit}")
    if counts.flags:
        flags = ", ".join(f"{number} {flag}" for flag, number in counts.flags.most_common())
        terminal.info(f"of {counts.texts} texts: {flags}")
    replaced = counts.flags["extractive"]
    if replaced > _MANY_REPLACED * counts.texts:
        cut_off = counts.flags["cut"] > counts.texts / 2
        why = (
            "most texts met their length limit. Try a larger --max-new-tokens; or"
            if cut_off
            else "this model does not write well from these prompts. Try"
        )
        terminal.warn(
            f"{replaced} of {counts.texts} texts were so bad that extractive ones stand in their "
            f"place: {why} {job.setup.advice()}"
        )


def _preview(job: "SummaryJob", terminal: Terminal) -> None:
    """Show one exact prompt, its parts, and what the run would cost at most."""
    from trec_cli.summarize.job import ModelJob

    if isinstance(job, ModelJob):
        _show_prompt(job, terminal)
        _show_cost(job, terminal)
        return
    number = len(job.examples)
    terminal.info(f"would write {number} empty summaries to {job.files.out}; no model is needed")
    terminal.result(examples=number, calls=0, prompt_tokens=0)


def _show_prompt(job: "ModelJob", terminal: Terminal) -> None:
    sample = next((example for example in job.shortened if example.history), None)
    if sample is None:
        return
    size = job.setup.summary.block_size
    start, end = split_blocks(len(sample.history), size, sample.start)[0]
    prompt = job.writer.block(sample.history[start:end])
    terminal.info(f"The first prompt of example {sample.example_id!r}:\n")
    terminal.info(job.writer.show(prompt) + "\n")
    terminal.table(_table("Its parts", ("part", "tokens"), prompt.parts))


def _show_cost(job: "ModelJob", terminal: Terminal) -> None:
    from trec_cli.summarize.run import estimate

    cost = estimate(job.shortened, job.options.mode, job.writer)
    rows = [(what, each.calls, each.prompt_tokens) for what, each in cost.rounds.items()]
    new_tokens = cost.calls * job.setup.decoding_of(job.writer).max_new_tokens
    money = job.setup.most_cost(cost.prompt_tokens, new_tokens)
    total = ("all", cost.calls, cost.prompt_tokens)
    terminal.table(_table("Calls at most", ("round", "calls", "prompt tokens"), [*rows, total]))
    most = counted(job.setup.retries, "time")
    again = f", and bad texts are asked for again, each at most {most}" if job.setup.retries else ""
    terminal.info(
        f"{counted(len(job.examples), 'example')}, {counted(cost.shared, 'request')} shared, "
        f"at most {counted(new_tokens, 'new token')}"
        f"{f', {money:.4f} in money' if money else ''}; "
        f"what the store holds costs nothing{again}. Nothing was written."
    )
    if cost.calls:
        a_call = (cost.prompt_tokens + new_tokens) / cost.calls
        at_once = max(1, min(cost.calls, job.options.max_tokens // a_call))
        work = Work(read=cost.prompt_tokens, written=new_tokens, at_once=at_once, context=a_call)
        show_bill(job.options.plan, job.options.source, work, len(job.examples), terminal)
    fields = {"calls": cost.calls, "prompt_tokens": cost.prompt_tokens}
    terminal.result(examples=len(job.examples), **fields)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(str, row))
    return table
