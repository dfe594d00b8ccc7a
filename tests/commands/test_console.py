"""What commands say where, and with which exit code they end."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from trec_cli.commands.app import app as whole_app
from trec_cli.commands.console import Terminal, stage
from trec_cli.core.errors import (
    InputError,
    ModelError,
    OutputFailed,
    PartialError,
    TrecError,
    UsageError,
)


def _ends(error: BaseException | None = None, **options: bool) -> tuple[int, str, str]:
    """Run a stage that ends with an error, or well: exit code, stdout, stderr."""
    app = typer.Typer()

    @app.command()
    def work() -> None:
        with stage("work", **options) as terminal:
            terminal.info("[working] on é")
            terminal.result(rows=3)
            if error:
                raise error
            terminal.warn("almost [bold]there[/]")

    result = CliRunner().invoke(app)
    return result.exit_code, result.stdout, result.stderr


def test_messages_go_to_stderr_as_they_are() -> None:
    assert _ends() == (0, "", "[working] on é\nwarning: almost [bold]there[/]\n")


def test_quiet_keeps_warnings_alone() -> None:
    assert _ends(quiet=True) == (0, "", "warning: almost [bold]there[/]\n")


def test_json_ends_with_one_line_on_stdout() -> None:
    code, out, _ = _ends(json_line=True)
    assert code == 0
    assert json.loads(out) == {"rows": 3, "command": "work", "ok": True, "exit_code": 0}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("wrong"), 2),
        (InputError.of("f", "wrong"), 3),
        (ModelError("wrong"), 4),
        (PartialError("wrong"), 5),
        (OutputFailed("f", OSError(errno.ENOSPC, "wrong")), 5),
        (TrecError("wrong"), 1),
        (KeyboardInterrupt(), 130),
        (RuntimeError("wrong"), 1),
        (OSError(errno.ENOSPC, "wrong", "file"), 5),
        (OSError(errno.ENOENT, "wrong", "file"), 1),
    ],
)
def test_an_error_is_one_message_and_its_code(error: BaseException, code: int) -> None:
    found, out, err = _ends(error, json_line=True)
    assert found == code
    assert "error: " in err
    assert "Traceback" not in err
    last = json.loads(out)
    assert (last["ok"], last["exit_code"], last["rows"]) == (False, code, 3)
    assert last["error"] in err
    assert "wrong" in err or code == 130


def test_an_unexpected_error_says_how_to_report_it() -> None:
    assert "unexpected RuntimeError: boo. This is a fault of trec" in _ends(RuntimeError("boo"))[2]


def test_a_full_disk_is_no_fault_of_trec() -> None:
    err = _ends(OSError(errno.ENOSPC, "No space left on device", "big.bin"))[2]
    assert "cannot write big.bin: No space left on device" in err


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0",
        "basic_ios::clear: iostream error",
        "Error while serializing: I/O error: No space left on device (os error 28)",
    ],
)
def test_what_torch_says_of_a_full_disk_is_understood(message: str) -> None:
    code, _, err = _ends(RuntimeError(message))
    assert code == 5
    assert "the disk is full" in err


def test_the_last_line_gives_way_to_data_on_stdout() -> None:
    code, out, err = _ends(json_line=True, data_on_stdout=True)
    assert (code, out) == (0, "")
    assert json.loads(err.splitlines()[-1])["ok"]


@pytest.mark.parametrize("arguments", [["score", "--bogus"], ["prepare", "x"], ["no-such-stage"]])
def test_a_wrong_command_line_has_a_last_line_too(arguments: list[str]) -> None:
    result = CliRunner().invoke(whole_app, [*arguments, "--json"])
    assert result.exit_code == 2
    last = json.loads(result.stdout)
    assert (last["command"], last["ok"], last["exit_code"]) == (arguments[0], False, 2)
    assert last["error"]
    assert CliRunner().invoke(whole_app, arguments).stdout == ""


def test_debug_shows_the_traceback() -> None:
    code, _, err = _ends(UsageError("wrong"), debug=True)
    assert code == 2
    assert "Traceback" in err
    assert "error: wrong" in err


def test_a_closed_pipe_ends_without_a_word() -> None:
    code = (
        "from trec_cli.commands.console import stage\n"
        "from trec_cli.core.outputs import write_lines\n"
        "import typer\n"
        "def main():\n"
        "    with stage('work', json_line=True): write_lines('-', [b'x' * 99] * 9999)\n"
        "typer.run(main)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_last_line_that_cannot_be_written_is_a_clear_error() -> None:
    code = (
        "from trec_cli.commands.console import stage\nimport typer\n"
        "def main():\n    with stage('work', json_line=True): pass\n"
        "typer.run(main)\n"
    )
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("error: cannot write standard output: No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_tables_are_for_people_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("system", "recall")
    table.add_row("bm25", "0.5")
    Terminal(quiet=False, json_line=False).table(table)
    Terminal(quiet=True, json_line=False).table(table)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("bm25") == 1


def test_notes_below_a_narrow_table_use_the_whole_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    table = Table("a", caption="nine words that go over one line of sixty columns, no more")
    table.add_row("1")
    Terminal(quiet=False, json_line=False).table(table)
    assert capsys.readouterr().err.splitlines()[-1].endswith("columns, no more")


def test_without_a_terminal_there_are_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(quiet=False, json_line=False)
    with terminal.task("working", total=2) as task:
        task.advance(2, "done")
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_long_task_tells_how_far_it_is_once_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 61.0, 62.0, 125.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Terminal(quiet=False, json_line=False).task("training", total=4000) as task:
        for note in ("", "90 tokens/s", "", ""):
            task.advance(500, note)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training: 1,000 of 4,000, about 3 min left; 90 tokens/s",
        "training: 2,000 of 4,000, about 2 min left",
    ]


def test_a_quiet_task_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Terminal(quiet=True, json_line=False).task("training") as task:
        task.advance()
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_there_is_no_colour() -> None:
    environment = {name: v for name, v in os.environ.items() if name not in {"FORCE_COLOR"}}
    done = subprocess.run(
        [sys.executable, "-m", "trec_cli", "score", "--scorer", "random"],
        capture_output=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"\x1b" not in done.stderr


def test_escape_sequences_in_messages_and_tables_are_not_obeyed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("name\x1b[2J", title="\x1b]0;x\x07")
    table.add_row("cell\x1b[31m")
    terminal = Terminal(quiet=False, json_line=False)
    terminal.info("\x1b]52;c;ZXZpbA==\x07")
    terminal.warn("\x9b2J")
    terminal.error("\x1bc")
    terminal.table(table)
    terminal.show(table)
    told = capsys.readouterr()
    assert "\x1b" not in told.err + told.out
    assert "\x9b" not in told.err
    assert "cell␛[31m" in told.err
    assert "cell␛[31m" in told.out


@pytest.mark.parametrize("message", ["File too large (os error 27)", "Disk quota exceeded"])
def test_other_failed_writes_are_no_fault_of_trec_either(message: str) -> None:
    code, _, err = _ends(RuntimeError(f"I/O error: {message}"))
    assert code == 5
    assert "fault of trec" not in err


def _signalled(code: str, number: int) -> "subprocess.Popen[str]":
    """Start a program, wait for its word, send it a signal and let it end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    return process


def test_sigterm_runs_what_cleans_up_and_ends_with_143(tmp_path: Path) -> None:
    code = (
        "import time, typer\nfrom trec_cli.commands.console import stage\n"
        "app = typer.Typer()\n@app.command()\ndef work():\n"
        "    with stage('work'):\n        try:\n            print('ready', flush=True)\n"
        "            time.sleep(600)\n        finally:\n"
        f"            open({str(tmp_path / 'f')!r}, 'w')\n"
        "app()\n"
    )
    process = _signalled(code, signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 143
    assert "the same command again continues" in err
    assert (tmp_path / "f").exists()


def test_ctrl_c_while_the_program_loads_ends_without_a_traceback() -> None:
    code = (
        "import sys, time, types\nimport trec_cli.__main__ as program\n"
        "slow = types.ModuleType('trec_cli.commands.app')\n"
        "def run():\n    print('ready', flush=True)\n    time.sleep(600)\n"
        "slow.main = run\nsys.modules['trec_cli.commands.app'] = slow\nprogram.main()\n"
    )
    process = _signalled(code, signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (130, "interrupted\n")
