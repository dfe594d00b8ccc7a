"""What ``--dry-run`` shows of a prompt."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from trec_cli.commands.console import Terminal

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
