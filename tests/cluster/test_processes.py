"""``torchrun`` on score and summarize: two processes write what one writes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.test_merge import NAME, command, copied, score
from tests.commands.test_summarize import make_run as summary_run
from tests.conftest import ROOT
from tests.score.small_run import make_run
from trec_cli.cluster.stages import of_process, of_shard
from trec_cli.core.errors import UsageError
from trec_cli.core.shards import BLOCK, Shard
from trec_cli.models.processes import Processes
from trec_cli.score.options import LlmOptions, ScoreOptions
from trec_cli.summarize.settings import SummarizeOptions

TinyModel = Callable[..., Path]
SECOND = Processes(rank=1, local_rank=1, count=4)


def launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run trec in two processes, with a port that torchrun finds free itself."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", "trec_cli", *map(str, arguments)),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def test_a_process_has_the_shard_of_its_rank() -> None:
    assert of_process(ScoreOptions(), SECOND).llm.shard == "2/4"
    assert of_process(SummarizeOptions(), SECOND).shard == "2/4"


def test_what_cannot_be_cut_or_is_cut_already_is_refused() -> None:
    with pytest.raises(UsageError, match="bm25 runs in one process"):
        of_process(ScoreOptions(scorer="bm25"), SECOND)
    with pytest.raises(UsageError, match="4 processes share the work already"):
        of_process(ScoreOptions(llm=LlmOptions(shard="1/2")), SECOND)


def test_a_shard_of_a_cluster_is_computed_where_it_is() -> None:
    options = of_shard(ScoreOptions(llm=LlmOptions(engine="ray")), Shard(1, 2))
    assert (options.llm.engine, options.llm.shard) == ("local", "1/2")
    assert of_shard(SummarizeOptions(engine="ray"), Shard(1, 2)).engine == "local"
    assert of_shard(SummarizeOptions(engine="openai"), Shard(1, 2)).engine == "openai"


@pytest.mark.slow
def test_two_processes_score_what_one_scores(tmp_path: Path, tiny_model: TinyModel) -> None:
    run = make_run(tmp_path / "run", {"train": 3, "test": 2 * BLOCK + 9}, candidates=3)
    alone, model = copied(run, "alone"), tiny_model("llama")
    score(alone, model)
    done = launched(*command(run, model, "--json"))
    assert done.returncode == 0, done.stderr
    assert (run / NAME).read_bytes() == (alone / NAME).read_bytes()
    assert done.stdout.count('"command"') == 1  # the main process alone speaks


@pytest.mark.slow
def test_two_processes_summarize_what_one_summarizes(tmp_path: Path, tiny_model: TinyModel) -> None:
    run = summary_run(tmp_path / "run", users=BLOCK + 5, longest=6)
    given = ("--max-new-tokens", 8, "--device", "cpu", "--model", tiny_model("llama"))
    done = launched("summarize", run, *given)
    assert done.returncode == 0, done.stderr
    alone = tmp_path / "alone.jsonl"
    subprocess.run(
        [sys.executable, "-m", "trec_cli", "summarize", *map(str, [run, *given, "--out", alone])],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert (run / "summaries-hier.jsonl").read_bytes() == alone.read_bytes()


@pytest.mark.slow
def test_an_error_of_one_process_ends_both(tmp_path: Path, tiny_model: TinyModel) -> None:
    run = make_run(tmp_path / "run", {"test": 3}, candidates=3)
    done = launched(*command(run, tiny_model("llama"), "--split", "valid"))
    assert done.returncode != 0
    assert "holds no example of split valid" in done.stderr
