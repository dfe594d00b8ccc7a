"""``--engine ray``: every worker of a Ray cluster makes a shard, and the driver merges them.

A worker is a task in a process of its own that loads the model once and does what the command
does with ``--shard``: it writes into the run folder, which all machines must share under the
same path.  Ray starts a task again whose process or machine has died; it goes on where its
shard's journal or store ends, so nothing is computed twice and the bytes are those of a run
here.
"""

import importlib.util
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trec_cli.cluster.merge import merge
from trec_cli.cluster.stages import Options, of_shard, whole_output, work
from trec_cli.core.errors import ModelError, TrecError, UsageError
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.shards import Shard
from trec_cli.models.workers import RayOptions
from trec_cli.score.options import ScoreOptions
from trec_cli.summarize.settings import SummarizeOptions

_STARTS = 5

Outcome = tuple[int, str] | None
"""Exit code and message of a shard that failed; an exception of ours may not survive pickling."""


class ShardFailed(TrecError):  # noqa: N818
    """A worker's own error; the exit code is that of the error."""

    def __init__(self, shard: Shard, code: int, message: str) -> None:
        """Name the shard, and repeat what its worker said."""
        super().__init__(f"shard {shard}: {message}")
        self.exit_code = code


def run_on_ray(
    options: Options,
    given: Collection[str],
    progress: Progress,
    *,
    overwrite: bool = False,
) -> tuple[Path, int | None]:
    """Make an output on a Ray cluster.

    Returns:
        The output and the number of its shards; None where it was there already.

    Raises:
        UsageError: Ray is not installed.
        ModelError: the cluster cannot be reached or started.
        ShardFailed: a worker ended with an error; what the others made is kept.
        TrecError: see :func:`~trec_cli.cluster.merge.merge`.
    """
    out = whole_output(options, given)
    with _cluster(options.ray) as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        count = options.ray.workers or gpus or len([n for n in ray.nodes() if n["Alive"]])
        shards = [Shard(index, count) for index in range(1, count + 1)]
        progress.info(f"{count} Ray workers, each with a shard, write into {out}.shards")
        tasks = _start(ray, options, given, shards, gpus=gpus, overwrite=overwrite)
        _wait(ray, tasks, progress)
    return out, merge(out, overwrite=overwrite)


@contextmanager
def _cluster(options: RayOptions) -> Iterator[Any]:
    """Connect to the cluster, or start one on this machine."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray: pip install 'trec-cli[ray]'")
    import ray

    _connect(ray, options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, options: RayOptions) -> None:
    """Reach the cluster; one on this machine is tried again, for Ray waits 30 seconds only.

    Raises:
        ModelError: it cannot be reached or started.
    """
    address = options.ray_address
    given = {"address": address} if address else {"include_dashboard": False}
    for attempt in range(1, _STARTS + 1):
        try:
            ray.init(**given, log_to_driver=False, logging_level="error")
        except Exception as error:  # Ray itself raises nothing narrower
            ray.shutdown()
            if address or attempt == _STARTS:
                where = address or "this machine"
                raise ModelError(f"no Ray cluster at {where}: {error}") from None
        else:
            return


def _start(
    ray: Any,
    options: Options,
    given: Collection[str],
    shards: Sequence[Shard],
    *,
    gpus: int,
    overwrite: bool,
) -> dict[Any, Shard]:
    """Start a task for every shard, spread over the machines."""
    processors = int(ray.cluster_resources().get("CPU", 1)) // len(shards)
    task = ray.remote(_work).options(
        num_cpus=1 if gpus else max(1, processors),
        num_gpus=1 if gpus else 0,
        max_retries=-1,  # of a process or machine that died; an error of ours is a result
        scheduling_strategy="SPREAD",
    )
    folder = Path.cwd()
    return {
        task.remote(of_shard(options, shard), sorted(given), folder, overwrite): shard
        for shard in shards
    }


def _work(
    options: ScoreOptions | SummarizeOptions, given: Sequence[str], folder: Path, overwrite: bool
) -> Outcome:
    """Make a shard, in a worker; paths mean the same as for the driver."""
    os.chdir(folder)
    try:
        work(options, given, Silent(), overwrite=overwrite)
    except TrecError as error:
        return error.exit_code, str(error)
    return None


def _wait(ray: Any, tasks: dict[Any, Shard], progress: Progress) -> None:
    """Wait for all tasks, also for those behind one that failed.

    Raises:
        ShardFailed: the first that did.
    """
    failed: list[ShardFailed] = []
    waiting = list(tasks)
    with progress.task("shards", len(tasks)) as bar:
        while waiting:
            (done,), waiting = ray.wait(waiting, num_returns=1)
            if outcome := ray.get(done):
                failed.append(ShardFailed(tasks[done], *outcome))
            bar.advance()
    if failed:
        raise failed[0]
