"""What ``--dry-run`` shows of a prompt, and of the cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.table import Table

from trec_cli.commands.console import Terminal
from trec_cli.core.changes import as_typed
from trec_cli.core.cost import PlanOptions, Work, bill, read_profile
from trec_cli.core.errors import SettingsChanged
from trec_cli.core.options import declared

if TYPE_CHECKING:
    from trec_cli.models.source import ModelSource
    from trec_cli.prompts.recommend import PromptPart


def show_prompt(parts: "Sequence[PromptPart]", terminal: Terminal) -> None:
    """Show a prompt exactly as the model reads it, and the tokens of its parts."""
    terminal.info("".join(part.text for part in parts))
    table = Table("part of this prompt", "tokens", title="first example, first candidate")
    for part in parts:
        table.add_row(part.name, str(part.tokens))
    table.add_row("together", str(sum(part.tokens for part in parts)))
    terminal.table(table)


def show_refusal(refused: SettingsChanged | None, settings: type, terminal: Terminal) -> None:
    """Warn that the same command without ``--dry-run`` would be refused, and why.

    Args:
        refused: what a run would raise.
        settings: of the command; what differs is told by their options.
        terminal: where to say it.
    """
    if refused is None:
        terminal.result(refused=None)
        return
    why = str(refused.worded(as_typed(refused.changed, list(declared(settings)))))
    terminal.warn(f"without --dry-run this would be refused: {why}")
    terminal.result(refused=why)


def show_bill(
    plan: PlanOptions, source: "ModelSource", work: Work, users: int, terminal: Terminal
) -> None:
    """Show what some work would cost on the profile that was asked for, if any.

    Args:
        plan: the profile, and for how many users.
        source: the model; of it only the configuration is read.
        work: of the users at hand.
        users: how many these are.
        terminal: where to say it.
    """
    if plan.profile is None or not users:
        return
    from trec_cli.models.size import model_size

    profile = read_profile(plan.profile)
    size = model_size(source)
    if profile.weights:  # another model than the one whose tokens were counted
        cache = profile.cache_bytes or size.cache_bytes
        size = replace(size, weights=profile.weights, head=0.0, cache_bytes=cache)
    count = plan.users or users
    found = bill(work.times(count / users), size, profile)
    terminal.info(
        f"{count:,} users on {profile.name}: {found}; {size.weights:.3g} weights in linear "
        f"layers, {profile.utilisation:.0%} of {profile.flops:.3g} operations a second"
    )
    terminal.result(
        profile=profile.name, planned_users=count, device_hours=found.hours, money=found.money
    )
