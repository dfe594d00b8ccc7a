"""``trec score --engine openai`` against a server that fails as it is told to."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from tests.commands.test_score import last_line, scored
from tests.models.endpoint.conftest import api, pauses
from tests.models.endpoint.faulty_server import KEY, Fault, FaultyServer, logprob_for
from tests.score.small_run import make_adapter, make_run
from trec_cli.commands.app import app
from trec_cli.core.manifest import read_manifest
from trec_cli.models.answers import find_answers

__all__ = ["api", "pauses"]

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
Trec = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def model(tiny_model: Callable[..., Path]) -> Path:
    return tiny_model("llama")


@pytest.fixture
def options(api: FaultyServer, model: Path) -> list[str]:
    server = ["--engine", "openai", "--base-url", api.url, "--model", "served"]
    return [*server, "--tokenizer", str(model), "--retries", "1"]


@pytest.fixture
def trec(options: list[str]) -> Iterator[Trec]:
    """Give ``trec(*arguments)``: score by the server; no word it says holds the key."""
    results: list[Result] = []

    def call(*arguments: object) -> Result:
        words = ["score", *options, *map(str, arguments)]
        results.append(CliRunner().invoke(app, words))
        return results[-1]

    yield call
    for result in results:
        assert KEY not in result.output
        assert "Traceback" not in result.output


def answers(model: Path) -> tuple[int, int]:
    found = find_answers(AutoTokenizer.from_pretrained(model), "", chat=True)
    return found.yes, found.no


class Model:
    """Log-probabilities of a real (tiny) model, as a server would give them."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder)

    def __call__(self, ids: Sequence[int], token: int) -> float:
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([list(ids)])).logits[0, -1]
        return float(torch.log_softmax(logits.float(), 0)[token])


def test_scores_are_differences_of_the_servers_log_probabilities(
    run: Path, trec: Trec, api: FaultyServer, model: Path
) -> None:
    result = trec(run, "--zero-shot")
    assert result.exit_code == 0, result.stderr
    records = scored(run / "scores-hier-zeroshot.jsonl")
    assert [len(record.scores) for record in records] == [5] * 6
    yes, no = answers(model)
    known = {
        round(logprob_for(ids, yes) - logprob_for(ids, no), 6) for ids in map(tuple, api.questions)
    }
    assert {score for record in records for score in record.scores} == known
    assert len(known) > 20
    body = api.bodies[0]
    assert (body["max_tokens"], body["logprobs"], body["logprob_token_ids"]) == (1, 20, [yes, no])
    manifest = read_manifest(run / "scores-hier-zeroshot.jsonl")
    assert manifest is not None
    assert manifest["endpoint"]["answered"] == 30
    assert manifest["settings"]["model"]["name"] == "served"


def test_the_same_model_here_and_there_gives_the_same_scores(
    run: Path, trec: Trec, api: FaultyServer, model: Path
) -> None:
    api.logprob = Model(model)
    result = trec(run, "--zero-shot", "--check-with", model, "--json")
    assert result.exit_code == 0, result.stderr
    local = ["score", str(run), "--zero-shot", "--model", str(model), "--name", "local"]
    assert CliRunner().invoke(app, local).exit_code == 0
    pairs = zip(
        scored(run / "scores-hier-zeroshot.jsonl"), scored(run / "scores-local.jsonl"), strict=True
    )
    for there, here in pairs:
        assert there.scores == pytest.approx(here.scores, abs=1e-4)
    check = last_line(result)["check"]
    assert (check["users"], check["candidates"]) == (2, 10)
    assert check["largest_difference"] < 1e-4
    assert "10 scores of 2 users differ by at most" in result.stderr
    assert "warning" not in result.stderr


def test_a_model_to_check_with_that_is_not_there_costs_nothing(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    assert trec(run, "--zero-shot", "--check-with", "models/none-such").exit_code == 4
    assert api.bodies == []


def test_another_model_there_is_warned_of(run: Path, trec: Trec, model: Path) -> None:
    result = trec(run, "--zero-shot", "--check-with", model)
    assert result.exit_code == 0
    assert f"differ from those of {model} here by up to" in result.stderr


def test_an_adapter_brings_its_prompt_and_is_part_of_the_check(
    run: Path, trec: Trec, api: FaultyServer, model: Path
) -> None:
    adapter = make_adapter(run, model, run / "model-hier", recent=1)
    unclear = trec(run)
    assert unclear.exit_code == 2
    assert f"give --adapter {adapter} if the server serves it" in unclear.stderr
    assert trec(run, "--adapter", adapter, "--recent", 5).exit_code == 2
    checked = trec(run, "--adapter", adapter, "--check-with", model)
    assert checked.exit_code == 0, checked.stderr
    decode = AutoTokenizer.from_pretrained(model).decode
    # One recent item (or no history) and the candidate.
    assert {decode(ids).count("title: ") for ids in api.questions} == {1, 2}
    assert (run / "scores-hier.jsonl").exists()


@pytest.mark.parametrize("named_by", ["id", "text"])
def test_a_missing_yes_or_no_names_example_and_candidate(
    run: Path, trec: Trec, api: FaultyServer, model: Path, named_by: str
) -> None:
    yes, no = answers(model)
    api.named_by, api.texts, api.leave_out = named_by, {yes: "Yes", no: "No"}, {no}
    result = trec(run, "--zero-shot")
    assert result.exit_code == 4
    assert "example 'test-0', candidate 'i" in result.stderr
    assert "'No' is not among the log-probabilities" in result.stderr
    assert "Raise --top-logprobs (it is 20)" in result.stderr


def test_tokens_may_be_named_by_text_where_that_is_clear(
    run: Path, trec: Trec, api: FaultyServer, model: Path
) -> None:
    yes, no = answers(model)
    trec(run, "--zero-shot", "--name", "ids")
    api.named_by, api.texts = "text", {yes: "Yes", no: "No"}
    assert trec(run, "--zero-shot", "--name", "texts").exit_code == 0
    assert scored(run / "scores-ids.jsonl") == scored(run / "scores-texts.jsonl")


def lama_format(answer: dict[str, Any]) -> None:
    """Turn vLLM's log-probabilities into llama.cpp's."""
    choice = answer["choices"][0]
    named = choice["logprobs"]["top_logprobs"][0]
    ids = {name: int(name[9:]) for name in named if name.startswith("token_id:")}
    best = [{"id": i, "token": "?", "logprob": named[name]} for name, i in ids.items()]
    other = {"id": 5, "token": "else", "logprob": -0.5, "bytes": [1]}
    choice["logprobs"] = {"content": [{**other, "top_logprobs": best}]}


def test_the_format_of_llama_cpp_is_read_too(run: Path, trec: Trec, api: FaultyServer) -> None:
    trec(run, "--zero-shot", "--name", "one")
    api.plan = lambda *_: Fault(change=lama_format)
    assert trec(run, "--zero-shot", "--name", "other").exit_code == 0
    assert scored(run / "scores-one.jsonl") == scored(run / "scores-other.jsonl")


def test_a_server_without_log_probabilities_says_so(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    api.plan = lambda *_: Fault(change=lambda answer: answer["choices"][0].pop("logprobs"))
    result = trec(run, "--zero-shot", "--concurrency", 2)
    assert result.exit_code == 4
    assert "the answer has no log-probabilities" in result.stderr


def test_what_is_missing_is_listed_and_a_second_run_finishes_it(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    trec(run, "--zero-shot", "--name", "quiet")
    victims = [api.questions[7], api.questions[21]]  # of the second and the fifth user
    api.plan = lambda _, question: Fault(500) if question in victims else None
    broken = trec(run, "--zero-shot", "--name", "broken", "--json")
    assert broken.exit_code == 5, broken.stderr
    assert "2 of 6 examples have no scores yet ('test-1', 'test-4')" in broken.stderr
    assert "example 'test-1', candidate" in broken.stderr
    assert "HTTP 500" in broken.stderr
    assert last_line(broken)["endpoint"]["answered"] == 28
    assert not (run / "scores-broken.jsonl").exists()
    api.plan = lambda *_: None
    before = len(api.bodies)
    assert trec(run, "--zero-shot", "--name", "broken").exit_code == 0
    assert len(api.bodies) - before == 10
    names = [run / f"scores-{name}.jsonl" for name in ("broken", "quiet")]
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.parametrize("fault", [Fault(401), Fault(404), Fault(way="drop"), Fault(body=b"{")])
def test_where_nothing_works_the_endpoint_has_failed(
    run: Path, trec: Trec, api: FaultyServer, fault: Fault
) -> None:
    api.plan = lambda *_: fault
    result = trec(run, "--zero-shot", "--concurrency", 3)
    assert result.exit_code == 4, result.stderr
    assert "gave no answer at all" in result.stderr


def test_the_cost_limit_ends_a_run_and_the_next_goes_on(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    prices = ["--zero-shot", "--price-in", 1, "--json"]
    first = trec(run, *prices, "--max-cost", 0.004)
    assert first.exit_code == 5, first.stderr
    assert "--max-cost 0.004" in first.stderr
    assert 0 < last_line(first)["endpoint"]["cost"] <= 0.004
    assert trec(run, *prices).exit_code == 0


def test_a_killed_run_goes_on_to_the_same_bytes(
    run: Path, trec: Trec, options: list[str], api: FaultyServer
) -> None:
    trec(run, "--zero-shot", "--name", "quiet")
    start = len(api.bodies)
    api.plan = lambda number, _: Fault(way="hang") if number >= start + 12 else None
    words = [sys.executable, "-m", "trec_cli", "score", *options, str(run), "--zero-shot"]
    process = subprocess.Popen([*words, "--name", "killed"], stderr=subprocess.DEVNULL)
    while len(api.bodies) < start + 13:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    api.plan = lambda *_: None
    again = trec(run, "--zero-shot", "--name", "killed", "--json")
    assert again.exit_code == 0, again.stderr
    assert last_line(again)["continued_after_users"] == 2
    names = [run / f"scores-{name}.jsonl" for name in ("killed", "quiet")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_dry_run_asks_nothing(run: Path, trec: Trec, api: FaultyServer) -> None:
    result = trec(run, "--zero-shot", "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert last_line(result)["candidates"] == 30
    assert api.bodies == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--engine", "local", "--top-logprobs", "5"], "--base-url is for --engine openai"),
        (["--dtype", "float32"], "--dtype is for --engine local"),
        (["--scorer", "bm25"], "--engine is for --scorer llm"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Path, trec: Trec, wrong: list[str], words: str
) -> None:
    result = trec(run, *wrong)
    assert result.exit_code == 2, result.stderr
    assert words in result.stderr


def test_the_key_is_in_no_file(run: Path, trec: Trec, api: FaultyServer) -> None:
    api.plan = lambda number, _: Fault(500, body=KEY.encode()) if number % 9 == 0 else None
    trec(run, "--zero-shot", "--name", "one")
    trec(run, "--zero-shot", "--name", "one")
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert json.loads((run / "scores-one.jsonl.manifest.json").read_text())
