"""``trec recommend``: the best items of the whole catalogue for every user."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.core.jsonl import is_stream
from trec_cli.core.text import counted
from trec_cli.recommend.options import RecommendOptions

if TYPE_CHECKING:
    from trec_cli.core.records import Example, Item
    from trec_cli.recommend.run import ListCounts, RecommendTask

_HISTORY_SHOWN = 5


@command("recommend", RecommendOptions)
def recommend(options: RecommendOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Recommend the best items of the whole catalogue to every user; no language model needed.

    Ranks every item by the blend of all cheap signals (counts, steps, texts, vectors), which
    is learnt from the histories of the run in a minute. The same command on a grown log keeps the
    lists of users whose history is the same; --overwrite makes all of them again.

    [bold]trec prepare clicks.csv --items items.csv --out runs/shop --predict[/]

    [bold]trec recommend runs/shop --out tonight.csv[/]
    """
    from trec_cli.recommend.run import RecommendTask
    from trec_cli.recommend.run import recommend as make

    options.check(invocation.typed)
    task = RecommendTask.read(options)
    if invocation.dry_run:
        users = len(task.asked)
        if filtered := task.filtered():
            terminal.info(filtered)
        terminal.info(
            f"dry run: {counted(users, 'user')} of split {options.split}, "
            f"{counted(len(task.items), 'item')}; would write {options.out_file}"
        )
        terminal.result(dry_run=True, users=users, out=str(options.out_file))
        return
    counts = make(task, terminal, overwrite=invocation.overwrite)
    out = options.out_file
    if counts is None:
        terminal.info(f"{out} is finished already; nothing to do")
        terminal.result(out=str(out), done_before=True)
        return
    _report(task, counts, terminal)
    if not is_stream(out):
        terminal.info(f"wrote {out}{_next(options)}")
    terminal.result(out=str(out), **counts.details())


def _next(options: RecommendOptions) -> str:
    """Name the command that follows a shortlist."""
    if options.shortlist is None:
        return ""
    return (
        f"; next: trec score {options.run or ''} --mode none --examples {options.out_file} "
        f"--split {options.split} --top {options.top}"
    )


def _report(task: "RecommendTask", counts: "ListCounts", terminal: Terminal) -> None:
    """Show what was made, and the lists of a few users beside their histories."""
    if counts.remade or counts.kept:
        made = "; ".join(f"{number:,}: {why}" for why, number in counts.remade.most_common())
        terminal.info(
            f"{counts.kept:,} of {counts.users:,} lists kept, whose history is the same"
            + (f"; made again or new: {made}" if made else "")
        )
    if counts.weights_kept:
        terminal.info(f"weights of {task.options.weights_file} kept; --overwrite fits them again")
    if counts.recall.asked:
        length = task.options.shortlist or task.options.top
        terminal.info(f"{counts.recall} in the first {length}")
    if counts.taken:
        terminal.info(
            f"{counted(counts.taken, 'pair')} left out, of a user and an item taken already; "
            "--repeats allows them"
        )
    if task.shortened:
        terminal.info(
            f"the histories of {counted(task.shortened, 'user')} are shortened, and their older "
            "items may be recommended again: trec prepare --predict writes them, or give it a "
            "larger --max-history"
        )
    if counts.short:
        short = counted(counts.short, "list is", "lists are")
        terminal.warn(f"{short} shorter than --top: the filters leave no more")
    terminal.info(
        f"{counted(counts.users, 'user')}, {len(counts.items):,} of "
        f"{counted(len(task.items), 'item')} recommended"
        if counts.items
        else counted(counts.users, "question")
    )
    _show(task, counts, terminal)


def _show(task: "RecommendTask", counts: "ListCounts", terminal: Terminal) -> None:
    """Show a few users as a person would like to see them."""
    from rich.table import Table

    asked = {example.user_id: example for example in task.asked}
    title = partial(_title, task.items)
    for one in counts.shown:
        terminal.info(f"\n{one.user_id}: {_history(asked[one.user_id], title)}")
        reasons = any(entry.because for entry in one.items)
        table = Table("", "recommended", *(["because of", "by the signal"] if reasons else []))
        for entry in one.items:
            because = entry.because
            why = (title(because.history_item), because.signal) if because else ()
            table.add_row(str(entry.rank), title(entry.item_id), *why)
        terminal.table(table)


def _title(items: Mapping[str, "Item"], name: str) -> str:
    """Return an item's title, or its id and first text."""
    texts = items[name].attributes
    return texts.get("title") or ": ".join([name, *list(filter(None, texts.values()))[:1]])


def _history(example: "Example", title: Callable[[str], str]) -> str:
    """Write the newest items of a history, and of how many they are."""
    length = example.start + len(example.history)
    if not length:
        return "no history"
    newest = "; ".join(map(title, example.history[: -_HISTORY_SHOWN - 1 : -1]))
    more = "; …" if length > _HISTORY_SHOWN else ""
    return f"history of {counted(length, 'item')}, the newest first: {newest}{more}"
