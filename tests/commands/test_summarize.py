"""``trec summarize`` from the command line, with a tiny random model."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_summaries
from trec_cli.core.manifest import manifest_path

WORDS = ["jazz", "tea", "socks", "lamp", "garden", "chess", "violin", "kettle", "rope", "tent"]
SMALL = ["--max-new-tokens", "12", "--device", "cpu"]


def write_lines(path: Path, records: Iterable[object]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text(text, encoding="utf-8")


def example(number: int, length: int, **more: Any) -> dict[str, Any]:
    history = [f"i{(number * 7 + place) % 40}" for place in range(length)]
    return {
        "example_id": f"e{number}",
        "user_id": f"u{number}",
        "split": ("train", "valid", "test")[number % 3],
        "history": history,
        "candidates": ["i1", "i2"],
        "positives": ["i2"],
        **more,
    }


def make_run(folder: Path, users: int = 6, longest: int = 13) -> Path:
    """Write a run folder: user n has n items, at most ``longest``; user 0 has none."""
    folder.mkdir(parents=True, exist_ok=True)
    titles = (f"{WORDS[n % 10]} {WORDS[n * 3 % 10]}\nno {n} é日本" for n in range(40))
    items = [{"item_id": f"i{n}", "title": title, "brand": "B"} for n, title in enumerate(titles)]
    write_lines(folder / "items.jsonl", items)
    examples = [example(n, min(n * 3, longest)) for n in range(users)]
    write_lines(folder / "examples.jsonl", examples)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


Trec = Callable[..., Result]


@pytest.fixture
def trec(tiny_model: Callable[..., Path]) -> Trec:
    """Give ``trec(*arguments)``: summarize with the tiny model."""

    def call(*arguments: str | Path, stdin: bytes | None = None) -> Result:
        model = ["--model", str(tiny_model())]
        words = ["summarize", *map(str, arguments), *model, *SMALL]
        return CliRunner().invoke(app, words, input=stdin)

    return call


def last_line(result: Result) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return fields


def rows(store: Path) -> int:
    database = sqlite3.connect(store, timeout=10)
    try:
        return int(database.execute("SELECT count(*) FROM generations").fetchone()[0])
    finally:
        database.close()


@pytest.mark.parametrize("mode", ["hier", "recurrent"])
def test_every_example_gets_a_summary_in_example_order(run: Path, trec: Trec, mode: str) -> None:
    result = trec(run, "--mode", mode)
    assert result.exit_code == 0, result.stderr
    summaries = read_summaries(run / f"summaries-{mode}.jsonl")
    assert list(summaries) == [f"e{n}" for n in range(6)]
    assert [s.split for s in summaries.values()] == ["train", "valid", "test"] * 2
    assert {s.mode for s in summaries.values()} == {mode}
    empty, three, *_, thirteen = summaries.values()
    assert (empty.summary, empty.blocks) == ("", [])
    assert [(b.start, b.end) for b in three.blocks] == [(0, 3)]
    spans = [(0, 5), (5, 10), (10, 13), (0, 13)] if mode == "hier" else [(0, 5), (0, 10), (0, 13)]
    assert [(b.start, b.end) for b in thirteen.blocks] == spans
    assert thirteen.summary == thirteen.blocks[-1].summary
    assert "1 of 6 examples have no history" in result.stderr
    assert f"next: trec train {run} --mode {mode}\n" in result.stderr


def test_the_newest_items_are_left_out_of_summaries(run: Path, trec: Trec) -> None:
    result = trec(run, "--skip-recent", "3")
    assert result.exit_code == 0, result.stderr
    assert "2 of 6 examples have no history before the 3 newest items" in result.stderr
    summaries = read_summaries(run / "summaries-hier.jsonl")
    ends = [[(b.start, b.end) for b in summary.blocks] for summary in summaries.values()]
    assert ends[:3] == [[], [], [(0, 3)]]
    assert ends[5] == [(0, 5), (5, 10), (0, 10)]
    refused = trec(run)
    assert refused.exit_code == 2
    assert "--skip-recent 3 before" in refused.stderr
    # What is left is summarised like histories that end there.
    shorter = run.parent / "shorter"
    shutil.copytree(run, shorter, ignore=shutil.ignore_patterns("summaries*"))
    cut = [{**example(n, min(n * 3, 13)), "split": "train"} for n in range(6)]
    write_lines(shorter / "examples.jsonl", [{**e, "history": e["history"][:-3]} for e in cut])
    made = trec(shorter, "--json")
    assert last_line(made)["calls"] == 0
    texts = [s.summary for s in read_summaries(shorter / "summaries-hier.jsonl").values()]
    assert texts == [s.summary for s in summaries.values()]


def test_a_dry_run_counts_no_calls_for_items_left_out(run: Path, trec: Trec) -> None:
    shown = trec(run, "--skip-recent", "100", "--dry-run", "--json")
    assert last_line(shown)["calls"] == 0


def test_the_manifest_holds_settings_counts_and_device(run: Path, trec: Trec) -> None:
    trec(run, "--mode", "hier", "--attributes", "brand,title", "--no-repair")
    manifest = json.loads(manifest_path(run / "summaries-hier.jsonl").read_bytes())
    settings = manifest["settings"]
    assert "skip_recent" not in settings, "at its default it is what there was before"
    assert settings["attributes"] == ["brand", "title"]
    assert settings["decoding"]["max_new_tokens"] == 12
    assert settings["model"]["dtype"] == "float32"
    # Blocks of 0, 3, 6, 9, 12 and 13 items: 1 + 2 + 2 + 3 + 3, and a merge for all but one.
    assert manifest["calls"] + manifest["hits"] + manifest["shared"] == 15
    assert manifest["new_tokens"] > 0
    assert manifest["cuts"]["items"] == 43
    assert manifest["device"].startswith("cpu")


def test_the_same_command_again_does_nothing(run: Path, trec: Trec) -> None:
    trec(run)
    before = (run / "summaries-hier.jsonl").stat().st_mtime_ns
    again = trec(run, "--json")
    assert last_line(again)["already_done"] is True
    assert "already, made with the same settings" in again.stderr
    assert (run / "summaries-hier.jsonl").stat().st_mtime_ns == before


def test_other_settings_are_refused_until_overwrite(run: Path, trec: Trec) -> None:
    trec(run)
    refused = trec(run, "--block-size", "4")
    assert refused.exit_code == 2
    assert "--block-size 5 before, 4 now" in refused.stderr
    assert trec(run, "--block-size", "4", "--overwrite").exit_code == 0


def test_a_setting_and_what_follows_from_it_are_told_as_the_option_that_was_typed(
    run: Path, trec: Trec, tiny_model: Callable[..., Path]
) -> None:
    trec(run, "--limit", "3")
    words = ["summarize", str(run), "--model", str(tiny_model()), *SMALL, "--max-new-tokens", "16"]
    refused = CliRunner().invoke(app, words)
    told = "(--limit 3 before, not given now; --max-new-tokens 12 before, 16 now)"
    assert told in " ".join(refused.stderr.split())


def test_a_second_output_takes_every_text_from_the_store(
    run: Path, trec: Trec, tmp_path: Path
) -> None:
    first = last_line(trec(run, "--json"))
    second = last_line(trec(run, "--json", "--out", tmp_path / "again.jsonl"))
    assert (second["calls"], second["hits"]) == (0, first["calls"] + first["hits"])
    assert (tmp_path / "again.jsonl").read_bytes() == (run / "summaries-hier.jsonl").read_bytes()


def test_no_weights_are_loaded_where_the_store_has_every_text(
    run: Path, trec: Trec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trec(run)

    def refuse(_source: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("trec_cli.summarize.setup.load_model", refuse)
    again = trec(run, "--json", "--out", tmp_path / "again.jsonl")
    assert again.exit_code == 0, again.stderr
    assert last_line(again)["calls"] == 0
    assert last_line(again)["device"].startswith("cpu")


def test_examples_with_the_same_history_share_the_work(tmp_path: Path, trec: Trec) -> None:
    run = make_run(tmp_path / "run")
    write_lines(run / "examples.jsonl", [example(3, 4, example_id=name) for name in "abc"])
    fields = last_line(trec(run, "--json", "--no-repair"))
    assert (fields["calls"], fields["shared"]) == (1, 2)


def test_one_new_item_makes_only_the_calls_on_its_path(tmp_path: Path, trec: Trec) -> None:
    run = make_run(tmp_path / "run")
    for length, hier, recurrent in ((12, 4, 2), (13, 2, 1)):
        write_lines(run / "examples.jsonl", [example(3, length)])
        # hier: three blocks and a merge, then the last block and the merge again;
        # recurrent: the first block is shared with hier, then the last step only.
        # Without repair each text is asked for once, and sentences end at no line, at which
        # a random model may end at once: empty texts would make equal prompts.
        options = ["--json", "--overwrite", "--no-repair", "--domain", "sentences"]
        assert last_line(trec(run, *options))["calls"] == hier
        fields = last_line(trec(run, *options, "--mode", "recurrent"))
        assert fields["calls"] == recurrent


@pytest.mark.parametrize(("mode", "calls"), [("hier", 2), ("recurrent", 1)])
def test_a_click_under_the_cap_makes_only_the_calls_of_the_newest_block(
    tmp_path: Path, trec: Trec, mode: str, calls: int
) -> None:
    run = make_run(tmp_path / "run")
    clicks = [f"i{(n * 7) % 40}" for n in range(33)]
    options = ["--json", "--mode", mode, "--no-repair", "--domain", "sentences"]
    for total, most in ((32, 99), (33, calls)):
        start = total - 20  # the cap: items 12 to 31, then 13 to 32
        last = example(1, 0, history=clicks[start:total], start=start)
        write_lines(run / "examples.jsonl", [last])
        fields = last_line(trec(run, *options))
        assert 0 < fields["calls"] <= most
    [summary] = read_summaries(run / f"summaries-{mode}.jsonl").values()
    whole = [(2, 7), (7, 12), (12, 17), (17, 20)]  # items 15 to 32; 13 and 14 are no block
    ends = [*whole, (2, 20)] if mode == "hier" else [(2, end) for _, end in whole]
    assert [(block.start, block.end) for block in summary.blocks] == ends


def test_questions_without_candidates_are_summarised(run: Path, trec: Trec) -> None:
    asked = {"example_id": "p", "user_id": "u", "split": "predict", "history": ["i1", "i2"]}
    with (run / "examples.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asked) + "\n")
    assert trec(run, "--split", "predict", "--dry-run").exit_code == 0
    assert trec(run, "--split", "predict").exit_code == 0
    [summary] = read_summaries(run / "summaries-hier.jsonl").values()
    assert (summary.example_id, summary.split) == ("p", "predict")


def grown(run: Path) -> None:
    """Add an item to the history of one user, and a user."""
    examples = [example(n, min(n * 3, 13)) for n in range(6)]
    examples[2] = example(2, 7)
    write_lines(run / "examples.jsonl", [*examples, example(6, 4)])


@pytest.mark.parametrize("mode", ["hier", "recurrent", "none"])
def test_the_same_command_on_inputs_that_grew_makes_what_is_missing(
    run: Path, trec: Trec, tmp_path: Path, mode: str
) -> None:
    trec(run, "--mode", mode)
    grown(run)
    again = trec(run, "--mode", mode, "--json")
    assert again.exit_code == 0, again.stderr
    fields = last_line(again)
    remade = 0 if mode == "none" else 1
    assert (fields["kept"], fields["remade"], fields["added"]) == (6 - remade, remade, 1)
    assert f"{6 - remade} summaries are as before, {remade} were made again" in again.stderr
    if mode != "none":
        assert 0 < fields["calls"] < fields["hits"]
    fresh = make_run(tmp_path / "fresh")
    grown(fresh)
    trec(fresh, "--mode", mode)
    name = f"summaries-{mode}.jsonl"
    assert (run / name).read_bytes() == (fresh / name).read_bytes()
    assert last_line(trec(run, "--mode", mode, "--json"))["already_done"] is True


def test_other_texts_of_items_remake_the_summaries_of_their_users(run: Path, trec: Trec) -> None:
    trec(run)
    items = [json.loads(line) for line in (run / "items.jsonl").read_text().splitlines()]
    items[7]["title"] = "another title"  # of the user 1 (items 7 to 9), and of others
    write_lines(run / "items.jsonl", items)
    fields = last_line(trec(run, "--json"))
    users = sum("i7" in example(n, min(n * 3, 13))["history"] for n in range(6))
    assert 0 < fields["remade"] <= users
    assert fields["kept"] + fields["remade"] == 6


def test_inputs_that_lost_an_example_are_refused_until_overwrite(run: Path, trec: Trec) -> None:
    trec(run)
    write_lines(run / "examples.jsonl", [example(n, 3) for n in range(5)])
    before = (run / "summaries-hier.jsonl").read_bytes()
    refused = trec(run)
    assert refused.exit_code == 2
    assert "other content now in examples.jsonl" in refused.stderr
    assert (run / "summaries-hier.jsonl").read_bytes() == before
    assert trec(run, "--overwrite").exit_code == 0


def test_grown_inputs_and_other_settings_are_refused(run: Path, trec: Trec) -> None:
    trec(run)
    grown(run)
    refused = trec(run, "--block-size", "4")
    assert refused.exit_code == 2
    assert "--block-size 5 before, 4 now" in refused.stderr


def test_splits_and_limit_choose_examples(run: Path, trec: Trec) -> None:
    trec(run, "--split", "test", "--split", "train", "--limit", "1")
    assert list(read_summaries(run / "summaries-hier.jsonl")) == ["e0", "e2"]


def test_none_needs_no_model_and_no_items(run: Path) -> None:
    (run / "items.jsonl").unlink()
    words = ["summarize", str(run), "--mode", "none", "--model", "models/none-such"]
    assert CliRunner().invoke(app, words).exit_code == 0
    summaries = read_summaries(run / "summaries-none.jsonl")
    assert [s.summary for s in summaries.values()] == [""] * 6
    assert manifest_path(run / "summaries-none.jsonl").is_file()


def test_stdin_to_stdout_gives_the_same_lines_and_leaves_no_file(
    run: Path, trec: Trec, tmp_path: Path
) -> None:
    trec(run)
    wanted = (run / "summaries-hier.jsonl").read_bytes()
    examples = (run / "examples.jsonl").read_bytes()
    before = sorted(tmp_path.rglob("*"))
    piped = trec(
        "--items", run / "items.jsonl", "--examples", "-", "--out", "-", "-q", stdin=examples
    )
    assert piped.stdout_bytes == wanted
    assert sorted(tmp_path.rglob("*")) == before


def test_other_examples_on_stdin_are_other_settings(run: Path, trec: Trec) -> None:
    trec(run, "--examples", "-", stdin=(run / "examples.jsonl").read_bytes())
    line = (run / "examples.jsonl").read_bytes().splitlines(keepends=True)[1]
    refused = trec(run, "--examples", "-", stdin=line)
    assert refused.exit_code == 2
    assert "examples: " in refused.stderr


def test_items_on_stdin_are_known_by_their_content(run: Path, trec: Trec) -> None:
    items = (run / "items.jsonl").read_bytes()
    assert trec(run, "--items", "-", stdin=items).exit_code == 0
    assert "already" in trec(run, "--items", "-", stdin=items).stderr
    refused = trec(run, "--items", "-", stdin=items.replace(b"jazz", b"opera"))
    assert refused.exit_code == 2
    assert "items: " in refused.stderr
    both = trec(run, "--items", "-", "--examples", "-", stdin=items)
    assert both.exit_code == 2
    assert "--items and --examples cannot both be standard input" in both.stderr


def test_a_dry_run_shows_prompt_and_cost_and_writes_nothing(run: Path, trec: Trec) -> None:
    before = sorted(run.iterdir())
    result = trec(run, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    assert sorted(run.iterdir()) == before
    assert "Keywords for products" in result.stderr
    assert "- title: kettle tea no 7 é日本; brand: B\n" in result.stderr
    assert "blocks" in result.stderr
    fields = last_line(result)
    real = last_line(trec(run, "--json", "--no-repair"))
    assert fields["calls"] >= real["calls"]
    assert fields["examples"] == 6


def test_a_dry_run_tells_of_what_would_be_refused(run: Path, trec: Trec) -> None:
    trec(run)
    assert last_line(trec(run, "--dry-run", "--json"))["refused"] is None
    shown = trec(run, "--block-size", "4", "--dry-run", "--json")
    assert shown.exit_code == 0
    assert "without --dry-run this would be refused" in shown.stderr
    assert "block" in last_line(shown)["refused"]


def test_a_dry_run_of_one_block_counts_the_tokens_exactly(tmp_path: Path, trec: Trec) -> None:
    run = make_run(tmp_path / "run")
    write_lines(run / "examples.jsonl", [example(3, 4), example(4, 5)])
    planned = last_line(trec(run, "--dry-run", "--json"))
    real = last_line(trec(run, "--json", "--no-repair"))
    assert (planned["calls"], planned["prompt_tokens"]) == (real["calls"], real["prompt_tokens"])


@pytest.mark.parametrize(
    ("arguments", "most"),
    [([], 6), (["--no-repair"], 12), (["--domain", "sentences"], 12)],
)
def test_a_dry_run_counts_half_the_tokens_where_the_model_writes_half_of_a_list(
    arguments: list[str], most: int, tmp_path: Path, trec: Trec
) -> None:
    run = make_run(tmp_path / "run")
    write_lines(run / "examples.jsonl", [example(3, 4), example(4, 5)])  # a block each
    shown = trec(run, "--dry-run", "--max-new-tokens", "12", *arguments).stderr
    assert f"at most {2 * most} new tokens" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--split", "dev"], 2, "--split dev: choose one of train, valid, test"),
        (["--prompt-tokens", "50"], 2, "needs at least"),
        (["--max-tokens", "60"], 2, "needs at least"),
        (["--attributes", "colour"], 2, "no item has colour; use brand, title"),
        (["--items", "nowhere.jsonl"], 3, "no such file"),
        (["--dtype", "int3"], 2, "--dtype int3"),
        (["--device", "cuda:77"], 2, "--device cuda:77"),
    ],
)
def test_a_wrong_wish_is_a_clear_error(
    run: Path, tiny_model: Callable[..., Path], arguments: list[str], code: int, words: str
) -> None:
    model = ["--model", str(tiny_model()), "--max-new-tokens", "12"]
    result = CliRunner().invoke(app, ["summarize", str(run), *model, *arguments])
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (run / "summaries-hier.jsonl").exists()


def test_no_run_and_no_files_is_wrong_usage(trec: Trec) -> None:
    assert trec().exit_code == 2


def test_a_missing_model_folder_is_a_model_error(run: Path) -> None:
    words = ["summarize", str(run), "--model", "models/none-such"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 4
    assert "no model folder models/none-such" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ('{"user_id": "u", "split"', "line 1"),
        (json.dumps(example(1, 2, history=["unknown"])), "1 ids are not in the items"),
        (json.dumps(example(1, 2, split="dev")), "line 1"),
    ],
)
def test_bad_examples_are_named_by_file_and_line(
    run: Path, trec: Trec, content: str, words: str
) -> None:
    (run / "examples.jsonl").write_text(content, encoding="utf-8")
    result = trec(run)
    assert result.exit_code == 3
    assert "examples.jsonl" in result.stderr
    assert words in result.stderr


def test_a_damaged_store_is_named(run: Path, trec: Trec) -> None:
    (run / "generations.sqlite").write_bytes(b"garbage " * 1000)
    result = trec(run)
    assert result.exit_code == 3
    assert "generations.sqlite: is damaged or not a store" in result.stderr


def test_a_users_prompts_are_part_of_the_settings(run: Path, trec: Trec, tmp_path: Path) -> None:
    trec(run)
    (tmp_path / "summarize_block.txt").write_text("Likes? {items}", encoding="utf-8")
    refused = trec(run, "--prompts", tmp_path)
    assert refused.exit_code == 2
    assert "prompts: " in refused.stderr


def test_bad_texts_are_asked_again_replaced_and_counted(run: Path, trec: Trec) -> None:
    result = trec(run, "--mode", "hier", "--domain", "products")
    assert result.exit_code == 0, result.stderr
    manifest = json.loads(manifest_path(run / "summaries-hier.jsonl").read_bytes())
    flags, quality = manifest["flags"], manifest["quality"]
    # A random model writes nothing that stands in the items.
    assert flags["extractive"] == manifest["texts"] == 15
    assert quality["summaries"] == 5
    assert (quality["faithfulness"], quality["empty"]) == (1.0, 0.0)
    assert "15 extractive" in result.stderr
    assert "this model does not write well from these prompts" in " ".join(result.stderr.split())
    assert "quality: 100 % of content words" in result.stderr
    summaries = read_summaries(run / "summaries-hier.jsonl")
    blocks = [block for summary in summaries.values() for block in summary.blocks]
    assert all("extractive" in block.flags for block in blocks)
    assert all(summary.summary for summary in list(summaries.values())[1:])


def test_without_repair_texts_stay_as_the_model_wrote_them(run: Path, trec: Trec) -> None:
    fields = last_line(trec(run, "--json", "--no-repair"))
    assert "extractive" not in fields["flags"]
    assert fields["flags"]["unfaithful"] + fields["flags"].get("empty", 0) > 0
    summaries = read_summaries(run / "summaries-hier.jsonl").values()
    assert any(block.flags for summary in summaries for block in summary.blocks)


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("auto", "Keywords for products"),
        ("news", "Keywords for news"),
        ("general", "Keywords for items"),
        ("sentences", "<|im_start|>user\nA user liked these items"),
    ],
)
def test_the_domain_chooses_prompts_and_frame(
    run: Path, trec: Trec, domain: str, words: str
) -> None:
    assert words in trec(run, "--dry-run", "--domain", domain).stderr


def test_a_chat_template_may_be_asked_for(run: Path, trec: Trec) -> None:
    shown = trec(run, "--dry-run", "--chat-template").stderr
    assert "<|im_start|>user\nKeywords for products" in shown


def test_options_come_from_a_config_file(run: Path, trec: Trec, tmp_path: Path) -> None:
    (tmp_path / "trec.toml").write_text(
        '[summarize]\nmode = "recurrent"\nsplit = ["test"]\n', encoding="utf-8"
    )
    assert trec(run, "--config", tmp_path / "trec.toml").exit_code == 0
    assert list(read_summaries(run / "summaries-recurrent.jsonl")) == ["e2", "e5"]


@pytest.mark.parametrize("family", ["gpt_neox", "gemma3_text", "qwen2"])
def test_other_families_and_models_without_chat_template_work(
    run: Path, tiny_model: Callable[..., Path], family: str
) -> None:
    words = ["summarize", str(run), "--model", str(tiny_model(family, chat=False)), *SMALL]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert len(read_summaries(run / "summaries-hier.jsonl")) == 6


@pytest.mark.parametrize("mode", ["hier", "recurrent"])
def test_kill_9_and_the_same_command_again_give_the_same_bytes(
    tmp_path: Path, trec: Trec, tiny_model: Callable[..., Path], mode: str
) -> None:
    killed, quiet = (make_run(tmp_path / name, users=24) for name in ("killed", "undisturbed"))
    options = ["--mode", mode, "--max-tokens", "700", "--prompt-tokens", "600"]
    words = ["summarize", str(killed), *options, "--model", str(tiny_model()), *SMALL]
    process = subprocess.Popen([sys.executable, "-m", "trec_cli", *words])
    store = killed / "generations.sqlite"
    while process.poll() is None and not (store.exists() and rows_or_none(store)):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(600) == -signal.SIGKILL
    left = sorted(path.name for path in killed.iterdir() if not path.name.startswith("."))
    assert "summaries-hier.jsonl" not in left
    done = rows(store)

    fields = last_line(trec(killed, *options, "--json"))
    assert trec(quiet, *options).exit_code == 0
    assert 0 < done <= fields["hits"]
    assert fields["calls"] > 0
    name = f"summaries-{mode}.jsonl"
    assert (killed / name).read_bytes() == (quiet / name).read_bytes()
    assert not [path for path in killed.iterdir() if path.suffix == ".tmp"]


def rows_or_none(store: Path) -> int:
    """Count the rows of a store that may be in the making."""
    try:
        return rows(store)
    except sqlite3.OperationalError:
        return 0


def test_help_shows_an_example_that_runs() -> None:
    result = CliRunner().invoke(app, ["summarize", "--help"])
    assert result.exit_code == 0
    assert "trec summarize" in result.stdout
