"""``trec summarize --show USER``: one user's summaries, block by block, for people."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from trec_cli.commands.console import Terminal
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import read_examples, read_items, read_summaries
from trec_cli.core.lineage import stale
from trec_cli.core.records import Attention, Block, Example, Item, Summary
from trec_cli.summarize.quality import final_flags

_BAR = 20
"""Characters of a bar for weight 1."""
_DEEPEST = 20
"""Levels of a tree; what lies deeper is drawn beside each other."""
_MOST_COLUMNS = 20
"""Blocks in the table of candidates."""


def show_user(
    terminal: Terminal, user: str, *, summaries: Path, items: Path, examples: Path, as_json: bool
) -> None:
    """Print the summaries of a user (or of one example) from the finished file.

    Raises:
        InputError: a file is missing or damaged.
        UsageError: nobody of that name has a summary.
    """
    found = [s for s in read_summaries(summaries).values() if user in (s.user_id, s.example_id)]
    if not found:
        raise UsageError(f"--show {user}: {summaries} has no user or example of that name")
    if as_json:
        terminal.result(summaries=[msgspec.to_builtins(summary) for summary in found])
        return
    for name in stale(summaries, (items, examples)):
        terminal.warn(
            f"{summaries} was made from another version of {name}; what is shown of that may "
            "not be what the summaries are about"
        )
    catalogue = read_items(items)
    by_id = {example.example_id: example for example in read_examples(examples, catalogue)}
    for summary in found:
        example = by_id.get(summary.example_id)
        if example is None:
            raise UsageError(f"{examples} has no example {summary.example_id!r} any more")
        terminal.show(picture(summary, example, catalogue))


def picture(summary: Summary, example: Example, items: Mapping[str, Item]) -> RenderableType:
    """Draw a summary: a tree (hier), a chain (recurrent) or bars of weights (attention)."""
    titles = [_title(items[identifier]) for identifier in example.history]
    head = f"{summary.example_id} · user {summary.user_id} · {summary.split} · {summary.mode}"
    root = Tree(_text(f"{head} · {summary.model}", "bold"))
    root.add(_labelled("summary", summary.summary, final_flags(summary)))
    if not example.history:
        root.add(_text("no history", "dim"))
    draw: Callable[[Tree, Summary, Sequence[str]], None] = {
        "hier": _draw_merges,
        "attention": _draw_weights,
    }.get(summary.mode, _draw_chain)
    draw(root, summary, titles)
    if summary.attention is None or not summary.attention.candidates:
        return root
    return Group(root, _candidates(summary.attention, example, items))


def _draw_merges(root: Tree, summary: Summary, titles: Sequence[str]) -> None:
    """Hang every block under the merge that it went into, by their ranges."""
    ordered = sorted(summary.blocks, key=lambda b: (b.start, -b.end, -b.level))
    path: list[tuple[int, Tree]] = []
    shown = 0
    for block in ordered:
        while path and (path[-1][0] < block.end or len(path) == _DEEPEST):
            path.pop()
        branch = (path[-1][1] if path else root).add(_block(block))
        path.append((block.end, branch))
        if block.level == 0:
            shown = _hang_items(branch, titles, max(shown, block.start), block.end)


def _draw_chain(root: Tree, summary: Summary, titles: Sequence[str]) -> None:
    """Draw step after step, each with the items that it added."""
    shown = summary.blocks[0].start if summary.blocks else 0
    for block in summary.blocks:
        shown = _hang_items(root.add(_block(block)), titles, shown, block.end)


def _draw_weights(root: Tree, summary: Summary, titles: Sequence[str]) -> None:
    """Draw every block with a bar as long as its weight."""
    weights = summary.attention.weights if summary.attention else []
    shown = 0
    for index, block in enumerate(summary.blocks):
        weight = weights[index] if index < len(weights) else 0.0
        bar = "█" * round(weight * _BAR)
        branch = root.add(_block(block, f"{bar} {weight:.2f} ".lstrip()))
        shown = _hang_items(branch, titles, max(shown, block.start), block.end)


def _candidates(
    attention: Attention, example: Example, items: Mapping[str, Item]
) -> RenderableType:
    """Show which blocks each candidate looks at; positives are marked."""
    columns = _columns(attention)
    keys = [attention.keys[index] for index in columns]
    names = [f"items {key.start + 1}–{key.end}" for key in keys]
    left_out = len(attention.keys) - len(columns)
    title = "weights of the blocks by candidate"
    title += f"; {left_out} blocks of small weight left out" if left_out else ""
    table = Table("candidate", *names, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for identifier, weights in zip(example.candidates, attention.candidates, strict=False):
        known = dict(weights)
        mark = "✓ " if identifier in example.positives else "  "
        cells = [f"{known[n]:.2f}" if n in known else "" for n in columns]
        table.add_row(_text(mark + _title(items[identifier])), *cells)
    return table


def _columns(attention: Attention) -> list[int]:
    """Choose the keys that are shown: all, or those with most weight together."""
    total = Counter[int]()
    for weights in attention.candidates:
        total.update(dict(weights))
    everything = range(len(attention.keys))
    heaviest = sorted(everything, key=lambda index: (-total[index], index))
    return sorted(heaviest[:_MOST_COLUMNS])


def _block(block: Block, before: str = "") -> Text:
    where = f"items {block.start + 1}–{block.end}, level {block.level}"
    return _labelled(before + where, block.summary, block.flags)


def _hang_items(branch: Tree, titles: Sequence[str], start: int, end: int) -> int:
    """List the items of a block; return the number of the first that is not shown yet.

    Ranges that overlap, as no file of trec has them, show an item once.
    """
    last = min(end, len(titles))
    for index in range(start, last):
        branch.add(_text(f"{index + 1}. {titles[index]}", "dim"))
    return max(start, last)


def _labelled(label: str, text: str, flags: Sequence[str]) -> Text:
    shown = _text(f"{label}: ", "cyan").append_text(_text(text or "(empty)"))
    if flags:
        shown.append_text(_text(f" [{', '.join(flags)}]", "yellow"))
    return shown


def _title(item: Item) -> str:
    """Return the title, or all texts where there is none."""
    return item.title or item.text() or "unknown"


def _text(text: str, style: str = "") -> Text:
    """Make text that no markup and no control character of the data can change."""
    return Text("".join(c if c.isprintable() else " " for c in text), style=style)
