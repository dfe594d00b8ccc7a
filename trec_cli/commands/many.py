"""A stage in many processes: under a launcher, on a Ray cluster, or shard by shard."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trec_cli.cluster.stages import Options, of_process, whole_output
from trec_cli.commands.build import Invocation
from trec_cli.commands.console import Terminal
from trec_cli.core.shards import SUFFIX
from trec_cli.models.processes import Processes


@contextmanager
def as_one_of_many(
    options: Options, invocation: Invocation, terminal: Terminal
) -> Iterator[Options]:
    """Give the options of this process, and merge when the last one has done its part.

    Raises:
        UsageError: the work cannot be cut, or is cut already.
        TrecError: see :func:`~trec_cli.cluster.merge.merge`.
    """
    processes = Processes.here()
    if invocation.dry_run or processes.count == 1:
        yield options
        return
    own = of_process(options, processes)
    with processes.together():
        yield own
    if processes.is_main:
        from trec_cli.cluster.merge import merge

        out = whole_output(options, invocation.given)
        _tell(terminal, out, merge(out, overwrite=invocation.overwrite))


def make_on_ray(options: Options, invocation: Invocation, terminal: Terminal) -> None:
    """Make an output on a Ray cluster, and tell what came of it."""
    from trec_cli.cluster.on_ray import run_on_ray

    done = run_on_ray(options, invocation.given, terminal, overwrite=invocation.overwrite)
    _tell(terminal, *done)


def _tell(terminal: Terminal, out: Path, shards: int | None) -> None:
    terminal.info(f"wrote {out} from {shards} shards" if shards else f"{out} is merged already")
    terminal.result(out=str(out), shards=shards)


def merge_hint(out: Path) -> str:
    """Say what comes after all shards of an output; nothing where it is no shard."""
    if not out.parent.name.endswith(SUFFIX) or Processes.here().count > 1:
        return ""
    whole = out.parent.with_name(out.parent.name.removesuffix(SUFFIX))
    return f"; when all shards are there: trec merge --out {whole}"
