"""``trec merge``: the shards of an output become the output."""

from trec_cli.cluster.settings import MergeOptions
from trec_cli.commands.build import Invocation, command
from trec_cli.commands.console import Terminal
from trec_cli.core.errors import TrecError


@command("merge", MergeOptions, streams=False)
def merge(options: MergeOptions, invocation: Invocation, terminal: Terminal) -> None:
    """Put together what trec summarize or trec score has written with --shard.

    All outputs of RUN that have shards are merged, each when all of its shards are there, made
    with the same settings of the same inputs, and no example is missing or double. The result
    has the bytes of a run in one piece. No model is needed.

    [bold]trec score runs/shop --shard 1/2[/] and [bold]--shard 2/2[/], then
    [bold]trec merge runs/shop[/]
    """
    from trec_cli.cluster.merge import merge as put_together
    from trec_cli.cluster.parts import find_parts

    failed: list[TrecError] = []
    merged: list[str] = []
    for out in options.outputs():
        try:
            if invocation.dry_run:
                terminal.info(f"dry run: would merge {len(find_parts(out))} shards into {out}")
                continue
            count = put_together(out, overwrite=invocation.overwrite)
        except TrecError as error:
            failed.append(error)
            continue
        merged.append(str(out))
        done = f"wrote {out} from {count} shards" if count else f"{out} is merged already"
        terminal.info(done)
    terminal.result(merged=merged)
    for other in failed[1:]:
        terminal.error(str(other))
    if failed:
        raise failed[0]
