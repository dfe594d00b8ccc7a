"""``trec summarize --engine openai`` against a server that fails as it is told to."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.commands.test_summarize import (
    example,
    last_line,
    make_run,
    rows,
    rows_or_none,
    write_lines,
)
from tests.models.endpoint.conftest import api, pauses
from tests.models.endpoint.faulty_server import KEY, Fault, FaultyServer, Plan, finish
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_summaries
from trec_cli.core.manifest import read_manifest

__all__ = ["api", "pauses"]

Trec = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def options(api: FaultyServer, tiny_model: Callable[..., Path]) -> list[str]:
    server = ["--engine", "openai", "--base-url", api.url, "--model", "served"]
    sizes = ["--max-new-tokens", "12", "--rewrites", "0"]
    return [*server, "--tokenizer", str(tiny_model()), *sizes, "--retries", "1"]


@pytest.fixture
def trec(options: list[str]) -> Iterator[Trec]:
    """Give ``trec(*arguments)``: summarize by the server; no word it says holds the key."""
    results: list[Result] = []

    def call(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(app, ["summarize", *options, *map(str, arguments)])
        results.append(result)
        return result

    yield call
    for result in results:
        assert KEY not in result.output
        assert "Traceback" not in result.output


def no_key_in(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return not any(KEY.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize("mode", ["hier", "recurrent"])
def test_a_server_writes_the_summaries(run: Path, trec: Trec, api: FaultyServer, mode: str) -> None:
    result = trec(run, "--mode", mode, "--price-in", "2", "--price-out", "10", "--json")
    assert result.exit_code == 0, result.stderr
    summaries = read_summaries(run / f"summaries-{mode}.jsonl")
    assert [bool(s.summary) for s in summaries.values()] == [False] + [True] * 5
    assert {s.model for s in summaries.values()} == {"served"}
    manifest = read_manifest(run / f"summaries-{mode}.jsonl")
    assert manifest is not None
    fields = last_line(result)
    assert manifest["calls"] == fields["calls"] == len(api.bodies)
    asked = manifest["endpoint"]
    assert (asked["prompt_tokens"], asked["new_tokens"]) == (
        manifest["prompt_tokens"],
        manifest["new_tokens"],
    )
    assert asked["cost"] == pytest.approx(
        (2 * asked["prompt_tokens"] + 30 * asked["answered"]) / 1e6
    )
    assert fields["endpoint"] == asked
    assert no_key_in(run)


def test_an_answer_far_beyond_what_was_asked_is_cut_before_it_is_checked(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    write_lines(run / "examples.jsonl", [example(1, 3)])
    api.plan = lambda *_: finish("stop", "jazz tea, " * 300_000)
    result = trec(run)
    assert result.exit_code == 0, result.stderr
    database = sqlite3.connect(run / "generations.sqlite")
    [(text, stopped)] = database.execute("SELECT text, stopped FROM generations").fetchall()
    database.close()
    assert (len(text), stopped) == (12 * 64, 0)
    manifest = read_manifest(run / "summaries-hier.jsonl")
    assert manifest is not None
    assert manifest["at_limit"] == 1


def test_the_chat_endpoint_gets_the_message_and_greedy_decoding(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    trec(run, "--extra-body", '{"seed": 3}')
    assert set(api.paths) == {"/v1/chat/completions"}
    body = api.bodies[0]
    assert body["messages"][0]["content"].startswith("A user liked these items")
    assert "<|im_start|>" not in json.dumps(body)
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == (
        "served",
        0,
        12,
        3,
    )


def test_the_completions_endpoint_gets_the_ids_that_a_local_model_reads(
    run: Path, trec: Trec, api: FaultyServer, tiny_model: Callable[..., Path]
) -> None:
    from transformers import AutoTokenizer

    assert trec(run, "--endpoint", "completions", "--domain", "sentences").exit_code == 0
    text = AutoTokenizer.from_pretrained(tiny_model()).decode(api.bodies[0]["prompt"])
    assert text.startswith("<|im_start|>user\nA user liked these items")
    assert text.endswith("<|im_start|>assistant\n")


def test_the_store_knows_model_endpoint_and_fields_and_not_the_host(
    run: Path, trec: Trec, api: FaultyServer, tmp_path: Path
) -> None:
    trec(run)
    first = len(api.bodies)
    other = api.url.replace("127.0.0.1", "localhost")
    again = trec(run, "--base-url", other, "--json", "--out", tmp_path / "again.jsonl")
    assert last_line(again)["calls"] == 0
    changes = [
        ["--endpoint", "completions"],
        ["--extra-body", '{"seed": 1}'],
        ["--model", "other"],
        ["--max-new-tokens", "11"],
    ]
    for number, change in enumerate(changes, start=2):
        trec(run, *change, "--out", tmp_path / f"{number}.jsonl")
        assert len(api.bodies) == number * first


def break_some(number: int, question: Any) -> Fault | None:
    """Fail whatever speaks of thing 7, in ways that differ by attempt."""
    faults = [Fault(500), Fault(body=b"{"), Fault(way="cut"), finish("stop", "", 0), Fault(429)]
    return faults[number % len(faults)] if "no 7 " in str(question) else None


def test_what_is_missing_is_listed_and_a_second_run_finishes_it(
    tmp_path: Path, trec: Trec, api: FaultyServer
) -> None:
    run, quiet = make_run(tmp_path / "run"), make_run(tmp_path / "quiet")
    api.plan = break_some
    broken = trec(run, "--json")
    assert broken.exit_code == 5, broken.stderr
    fields = last_line(broken)
    assert fields["exit_code"] == 5
    assert fields["endpoint"]["answered"] == rows(run / "generations.sqlite") > 0
    assert "texts of this round are missing" in broken.stderr
    assert "the same command asks only for the rest" in broken.stderr
    assert "no 7 é日本; brand: B" in broken.stderr
    assert not (run / "summaries-hier.jsonl").exists()

    api.plan = lambda *_: None
    before = api.questions.copy()
    again = trec(run)
    assert again.exit_code == 0, again.stderr
    answered = [q for q in before if "no 7 " not in q]
    assert not set(answered) & set(api.questions[len(before) :])
    assert trec(quiet).exit_code == 0
    name = "summaries-hier.jsonl"
    assert (run / name).read_bytes() == (quiet / name).read_bytes()


def everything(fault: Fault) -> Plan:
    return lambda *_: fault


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, body=f"bad key {KEY}".encode()), "OPENAI_API_KEY"),
        (Fault(404, body=b"no model served"), "HTTP 404 no model served"),
        (Fault(500), "HTTP 500"),
        (Fault(body=b"<html>"), "not what the protocol says"),
        (Fault(way="drop"), "connection failed"),
        (finish("stop", "", 0), "an empty answer"),
    ],
)
def test_where_nothing_works_the_endpoint_has_failed(
    run: Path, trec: Trec, api: FaultyServer, fault: Fault, words: str
) -> None:
    api.plan = everything(fault)
    result = trec(run)
    assert result.exit_code == 4, result.stderr
    assert "gave no answer at all" in result.stderr
    assert words in result.stderr
    api.plan = lambda *_: None
    assert trec(run).exit_code == 0
    assert no_key_in(run)


def test_no_traceback_of_debug_shows_the_key(
    run: Path, options: list[str], api: FaultyServer
) -> None:
    api.plan = everything(Fault(500, body=f"Bearer {KEY}".encode()))
    words = [sys.executable, "-m", "trec_cli", "summarize", str(run), *options, "--debug"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert "HTTP 500 Bearer ***" in done.stderr
    assert KEY not in done.stderr + done.stdout


def test_the_cost_limit_ends_a_run_and_the_next_goes_on(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    prices = ["--price-in", "1", "--price-out", "100", "--json"]
    planned = trec(run, *prices, "--dry-run")
    assert " in money; what the store holds costs nothing" in planned.stderr
    # One request costs at most a thousandth or so (12 new tokens) and 300 millionths of it.
    cheap = trec(run, *prices, "--max-cost", "0.0025")
    assert cheap.exit_code == 5, cheap.stderr
    assert "it could cost more than is left of --max-cost 0.0025" in cheap.stderr
    assert 0 < last_line(cheap)["endpoint"]["cost"] <= 0.0025
    nothing = trec(run, *prices, "--max-cost", "0.000001")
    assert nothing.exit_code == 5
    asked = len(api.bodies)
    rest = trec(run, *prices)
    assert rest.exit_code == 0
    assert len(api.bodies) - asked == last_line(rest)["calls"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--device", "cpu"], "--device is for --engine local, not for openai"),
        (["--repetition-penalty", "1.2"], "--repetition-penalty is for --engine local"),
        (["--max-cost", "1"], "--max-cost needs prices"),
        (["--extra-body", "[]"], "--extra-body is no JSON object"),
        (["--no-chat-template"], "add --endpoint completions"),
        (["--api-key-env", "NOT_SET_HERE"], "--api-key-env names is not set"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    run: Path, trec: Trec, wrong: list[str], words: str
) -> None:
    result = trec(run, *wrong)
    assert result.exit_code == 2, result.stderr
    assert words in result.stderr


def test_options_of_a_server_need_its_engine_and_address(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    alone = CliRunner().invoke(app, ["summarize", str(run), "--concurrency", "3"])
    assert (alone.exit_code, "is for --engine openai, not for local" in alone.stderr) == (2, True)
    nowhere = CliRunner().invoke(app, ["summarize", str(run), "--engine", "openai"])
    assert (nowhere.exit_code, "give --base-url" in nowhere.stderr) == (2, True)


def test_a_model_without_a_tokenizer_here_says_what_to_do(run: Path, api: FaultyServer) -> None:
    words = ["--engine", "openai", "--base-url", api.url, "--model", "models/none-such"]
    result = CliRunner().invoke(app, ["summarize", str(run), *words])
    assert result.exit_code == 4
    assert "name one with --tokenizer NAME_OR_FOLDER" in result.stderr


def test_a_tokenizer_may_lie_anywhere(
    run: Path, trec: Trec, tiny_model: Any, tmp_path: Path
) -> None:
    trec(run)
    alone = tmp_path / "tokenizer"
    alone.mkdir()
    for file in tiny_model().glob("*token*"):
        shutil.copy(file, alone)
    shutil.copy(tiny_model() / "chat_template.jinja", alone)
    (run / "summaries-hier.jsonl").unlink()
    assert "0 calls" in trec(run, "--tokenizer", alone).stderr


@pytest.mark.parametrize("mode", ["hier", "recurrent"])
def test_kill_9_of_a_run_loses_no_text(
    tmp_path: Path, options: list[str], trec: Trec, api: FaultyServer, mode: str
) -> None:
    killed, quiet = (make_run(tmp_path / name, users=12) for name in ("killed", "quiet"))
    api.plan = lambda number, _: Fault(way="hang") if number >= 9 else None
    words = [sys.executable, "-m", "trec_cli", "summarize", str(killed), "--mode", mode]
    process = subprocess.Popen([*words, *options])
    store = killed / "generations.sqlite"
    while process.poll() is None and not (store.exists() and rows_or_none(store) >= 9):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(600) == -signal.SIGKILL
    api.plan = lambda *_: None
    fields = last_line(trec(killed, "--mode", mode, "--json"))
    assert fields["hits"] >= 9
    assert trec(quiet, "--mode", mode).exit_code == 0
    name = f"summaries-{mode}.jsonl"
    assert (killed / name).read_bytes() == (quiet / name).read_bytes()


def test_a_refused_text_is_asked_for_again_with_a_frequency_penalty(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    """Equal prompts: the answers of the test server have no support in the items."""
    assert trec(run, "--rewrites", "1", "--endpoint", "completions").exit_code == 0
    first = [body for body in api.bodies if "frequency_penalty" not in body]
    again = [body for body in api.bodies if "frequency_penalty" in body]
    assert {body["frequency_penalty"] for body in again} == {0.4}
    assert {tuple(b["prompt"]) for b in again} <= {tuple(b["prompt"]) for b in first}
    assert all(body["stop"] == ["\n"] for body in api.bodies)


def test_titles_that_the_tokenizer_here_cannot_tell_apart_are_asked_for_each(
    run: Path, options: list[str], api: FaultyServer, tmp_path: Path
) -> None:
    """A chat needs the tokenizer only to count: a key of its ids would mix up two users."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "-": 1, "title": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    words.save_pretrained(tmp_path / "words")
    items = [{"item_id": "a", "title": "tea"}, {"item_id": "b", "title": "jazz"}]
    write_lines(run / "items.jsonl", items)
    more = {"candidates": ["a", "b"], "positives": ["b"]}
    users = [example(n, 0, history=[name], **more) for n, name in enumerate("ab")]
    write_lines(run / "examples.jsonl", users)
    words_ = ["summarize", str(run), *options, "--tokenizer", str(tmp_path / "words")]
    result = CliRunner().invoke(app, [*words_, "--no-repair"])
    assert result.exit_code == 0, result.stderr
    assert len(api.bodies) == 2
    first, second = read_summaries(run / "summaries-hier.jsonl").values()
    assert first.summary != second.summary


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_missing_text_is_named_by_its_own_first_item(
    run: Path, trec: Trec, api: FaultyServer, endpoint: str
) -> None:
    """Not by an item of the template's example, which all prompts share."""
    api.plan = lambda number, _: Fault(500) if number > 2 else None
    result = trec(run, "--endpoint", endpoint, "--concurrency", "1")
    assert result.exit_code == 5
    assert "no 0 é日本; brand: B" in result.stderr or "no 7 é日本; brand: B" in result.stderr
    assert "Cordless Drill" not in result.stderr


def test_what_a_server_says_of_an_error_under_status_200_is_told(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    api.plan = lambda *_: Fault(body=b'{"error": {"message": "no credit left"}}')
    result = trec(run)
    assert result.exit_code == 4
    assert "no credit left" in result.stderr


ATTENTION = ["--mode", "attention", "--query", "candidate"]


def test_a_server_writes_and_an_embedder_here_attends(
    run: Path, trec: Trec, tiny_embedder: Path
) -> None:
    local = ["--embedder", str(tiny_embedder), "--device", "cpu", "--max-tokens", "500"]
    result = trec(run, *ATTENTION, *local)
    assert result.exit_code == 0, result.stderr
    assert (run / "summaries-attention.vectors.safetensors").exists()


def test_the_language_model_embeds_here_though_a_server_writes(
    run: Path, trec: Trec, tiny_model: Callable[..., Path]
) -> None:
    """What --tokenizer names is the model, and its vectors are those of --engine local."""
    words = ["summarize", str(run), *ATTENTION, "--model", str(tiny_model())]
    local = [*words, "--embedder", "llm", "--max-new-tokens", "12"]
    assert CliRunner().invoke(app, local).exit_code == 0
    place = run / "summaries-attention.vectors.safetensors"
    before = place.read_bytes()
    result = trec(run, *ATTENTION, "--embedder", "llm", "--overwrite", "--json")
    assert result.exit_code == 0, result.stderr
    assert last_line(result)["texts_embedded"] == 0
    assert place.read_bytes() == before
    (run / "generations.sqlite").unlink()
    again = last_line(trec(run, *ATTENTION, "--embedder", "llm", "--overwrite", "--json"))
    assert again["texts_embedded"] > 0
    assert place.read_bytes() == before


@pytest.mark.parametrize("config", [False, True])
def test_a_tokenizer_alone_cannot_embed_and_nothing_is_asked(
    run: Path,
    trec: Trec,
    api: FaultyServer,
    tiny_model: Callable[..., Path],
    tmp_path: Path,
    config: bool,
) -> None:
    alone = tmp_path / "tokenizer"
    alone.mkdir()
    for file in tiny_model().glob("*token*"):
        shutil.copy(file, alone)
    if config:
        shutil.copy(tiny_model() / "config.json", alone)
    result = trec(run, *ATTENTION, "--embedder", "llm", "--tokenizer", alone)
    assert result.exit_code == 4, result.stderr
    assert "--embedder llm cannot be used" in result.stderr
    assert "name its folder with --tokenizer" in result.stderr
    assert api.bodies == []


def test_a_server_without_frequency_penalty_is_said_how_to_do_without(
    run: Path, trec: Trec, api: FaultyServer
) -> None:
    body = b'{"error": "unknown field: frequency_penalty"}'
    api.plan = lambda _number, _question: (
        Fault(status=400, body=body) if "frequency_penalty" in api.bodies[-1] else None
    )
    refused = trec(run, "--rewrites", "1", "--endpoint", "completions", "--concurrency", "1")
    assert refused.exit_code == 5
    assert "add --rewrites 0." in refused.stderr
    assert trec(run, "--rewrites", "0", "--endpoint", "completions").exit_code == 0


def test_bad_texts_of_a_chat_endpoint_lead_to_the_other_endpoint(run: Path, trec: Trec) -> None:
    """The answers of the test server have no support in the items."""
    said = " ".join(trec(run).stderr.split())
    assert "Try --endpoint completions" in said
    (run / "summaries-hier.jsonl").unlink()
    said = " ".join(trec(run, "--endpoint", "completions").stderr.split())
    assert "Try a larger --model" in said
