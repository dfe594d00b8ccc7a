"""What ``trec summarize`` says: of a run that is done, and of one that is only planned."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from trec_cli.commands.console import Terminal
from trec_cli.core.records import Example, Mode

if TYPE_CHECKING:
    from trec_cli.models.vectors import VectorMaker
    from trec_cli.summarize.asking import Counts
    from trec_cli.summarize.audit import Audit
    from trec_cli.summarize.prompts import PromptWriter
    from trec_cli.summarize.run import Written
    from trec_cli.summarize.setup import Setup

_MANY_REPLACED = 0.25
"""More texts that had to be replaced are worth a warning."""


def tell_run(
    terminal: Terminal, counts: "Counts", writer: "PromptWriter", written: "Written"
) -> None:
    """Say what the run came to, and warn of what makes summaries doubtful."""
    terminal.info(
        f"{written.examples} summaries: {counts.calls} calls, {counts.hits} found in the store, "
        f"{counts.shared} shared; {counts.prompt_tokens} tokens read, {counts.new_tokens} written "
        f"({counts.rate} a second)"
    )
    cuts = writer.cuts
    terminal.info(
        f"cut: {cuts.long_items} of {cuts.items} items at --item-tokens, {cuts.squeezed_items} "
        f"to fit the prompt, {cuts.long_summaries} summaries; "
        f"{counts.at_limit} of {counts.calls + counts.hits} texts met their length limit"
    )
    if counts.empty or written.empty_summaries:
        terminal.warn(
            f"{counts.empty} texts are empty; {written.empty_summaries} examples have an empty "
            "summary although they have a history"
        )
    if counts.echoes:
        terminal.warn(f"{counts.echoes} texts only repeat a piece of their prompt")


def tell_quality(terminal: Terminal, counts: "Counts", audit: "Audit", advice: str) -> None:
    """Say how good the summaries are, and how many texts had to be mended or replaced."""
    terminal.info(f"quality: {audit}")
    if counts.flags:
        flags = ", ".join(f"{number} {flag}" for flag, number in counts.flags.most_common())
        terminal.info(f"of {counts.texts} texts: {flags}")
    replaced = counts.flags["extractive"]
    if replaced > _MANY_REPLACED * counts.texts:
        terminal.warn(
            f"{replaced} of {counts.texts} texts were so bad that extractive ones stand in their "
            f"place: this model does not write well from these prompts. Try {advice}"
        )


def tell_vectors(terminal: Terminal, maker: "VectorMaker") -> dict[str, Any]:
    """Say how many vectors were made, to people and for the manifest."""
    terminal.info(f"{maker.made} texts embedded, {maker.hits} vectors found in the store")
    return {"texts_embedded": maker.made, "vectors_found": maker.hits}


def show_plan(
    terminal: Terminal,
    mode: Mode,
    setup: "Setup",
    writer: "PromptWriter",
    chosen: Sequence[Example],
) -> None:
    """Show one exact prompt, its parts, and what the run would cost at most."""
    from trec_cli.summarize.run import estimate

    sample = next((example for example in chosen if example.history), None)
    if sample is not None:
        prompt = writer.block(sample.history[: setup.summary.block_size])
        terminal.info(f"The first prompt of example {sample.example_id!r}:\n")
        terminal.info(writer.show(prompt) + "\n")
        terminal.table(_table("Its parts", ("part", "tokens"), prompt.parts))
    cost = estimate(chosen, mode, writer)
    rows = [(what, each.calls, each.prompt_tokens) for what, each in cost.rounds.items()]
    new_tokens = cost.calls * setup.decoding_of(writer).max_new_tokens
    money = setup.most_cost(cost.prompt_tokens, new_tokens)
    total = ("all", cost.calls, cost.prompt_tokens)
    terminal.table(_table("Calls at most", ("round", "calls", "prompt tokens"), [*rows, total]))
    terminal.info(
        f"{len(chosen)} examples, {cost.shared} requests shared, at most "
        f"{new_tokens} new tokens"
        f"{f', {money:.4f} in money' if money else ''}; "
        "what the store holds costs nothing, and bad texts are asked for again, each at most "
        f"{setup.retries} times. Nothing was written."
    )
    terminal.result(examples=len(chosen), calls=cost.calls, prompt_tokens=cost.prompt_tokens)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(str, row))
    return table
