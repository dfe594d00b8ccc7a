"""What ``--dry-run`` shows of a prompt, and what comes after a shard."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from trec_cli.commands.console import Terminal
from trec_cli.core.shards import SUFFIX

if TYPE_CHECKING:
    from trec_cli.prompts.recommend import PromptPart


def show_prompt(parts: "Sequence[PromptPart]", terminal: Terminal) -> None:
    """Show a prompt exactly as the model reads it, and the tokens of its parts."""
    terminal.info("".join(part.text for part in parts))
    table = Table("part of this prompt", "tokens", title="first example, first candidate")
    for part in parts:
        table.add_row(part.name, str(part.tokens))
    table.add_row("together", str(sum(part.tokens for part in parts)))
    terminal.table(table)


def merge_hint(out: Path) -> str:
    """Say what comes after all shards of an output; nothing where it is no shard."""
    if not out.parent.name.endswith(SUFFIX):
        return ""
    whole = out.parent.with_name(out.parent.name.removesuffix(SUFFIX))
    return f"; when all shards are there: trec merge --out {whole}"
