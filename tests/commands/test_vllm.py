"""Summaries and scores by a real vLLM server, beside those of the local engine.

Runs where ``TREC_VLLM`` names vLLM's executable (or a script that takes the same words).
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.commands.test_score import scored
from tests.score.small_run import make_run
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_summaries

pytestmark = pytest.mark.slow
_MINUTES = 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _MINUTES * 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "vLLM ended before it served"
        try:
            urllib.request.urlopen(f"{url}/models", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"vLLM did not serve within {_MINUTES} minutes")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a server of the real model."""
    from tests.conftest import REAL_MODEL

    executable = os.environ.get("TREC_VLLM")
    if not executable:
        pytest.skip("no vLLM (set TREC_VLLM to its executable)")
    if not REAL_MODEL.is_dir():
        pytest.skip(f"no model at {REAL_MODEL} (run `make model`)")
    port = free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "small"]
    sizes = ["--dtype", "float32", "--max-model-len", "2048"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment.pop("PYTHONPATH", None)
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as stream:
        command = [executable, "serve", str(REAL_MODEL), *address, *sizes]
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        try:
            wait_for(f"http://127.0.0.1:{port}/v1", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def trec(*words: object) -> Result:
    result = CliRunner().invoke(app, [*map(str, words)])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.parametrize(
    ("endpoint", "domain"),
    [("chat", "sentences"), ("completions", "sentences"), ("completions", "products")],
)
def test_vllm_writes_what_the_local_engine_writes(
    tmp_path: Path, vllm: str, real_model: Path, endpoint: str, domain: str
) -> None:
    run = make_run(tmp_path / "run")
    short = ["--max-new-tokens", "24", "--split", "test", "--domain", domain, "--no-repair"]
    server = ["--engine", "openai", "--base-url", vllm, "--model", "small"]
    there = [*server, "--tokenizer", real_model, "--endpoint", endpoint]
    trec("summarize", run, *short, *there, "--out", tmp_path / "there.jsonl")
    # A server is not given the local rules on repetition.
    here = ["--model", real_model, "--no-repeat-ngram", "0", "--dtype", "float32"]
    trec("summarize", run, *short, *here, "--out", tmp_path / "here.jsonl")
    pairs = zip(
        read_summaries(tmp_path / "there.jsonl").values(),
        read_summaries(tmp_path / "here.jsonl").values(),
        strict=True,
    )
    # Greedy decoding turns the last bits of a float into a word now and then.
    same = [one.summary == other.summary for one, other in pairs]
    assert sum(same) >= 0.8 * len(same)


def test_vllm_scores_as_the_local_engine_does(tmp_path: Path, vllm: str, real_model: Path) -> None:
    run = make_run(tmp_path / "run")
    server = ["--engine", "openai", "--base-url", vllm, "--model", "small"]
    trec("score", run, "--zero-shot", *server, "--tokenizer", real_model, "--name", "there")
    trec("score", run, "--zero-shot", "--model", real_model, "--name", "here")
    for there, here in zip(
        scored(run / "scores-there.jsonl"), scored(run / "scores-here.jsonl"), strict=True
    ):
        assert there.scores == pytest.approx(here.scores, abs=1e-3)
