"""Outputs are whole or not at all, have one writer, and continue after a crash."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trec_cli.core.errors import InputError, OutputFailed, OutputLocked, SettingsChanged, UsageError
from trec_cli.core.jsonl import encode
from trec_cli.core.outputs import (
    Journal,
    atomic,
    changed_settings,
    discard_leftover,
    locked,
    plain_settings,
    write_bytes,
    write_lines,
)

SETTINGS = {"mode": "hier", "k": 3}


def _finish(journal: Journal, order: str) -> None:
    write_lines(journal.path, (journal.records[name] for name in order))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _record(name: str, text: str = "x") -> tuple[str, bytes]:
    return name, encode({"example_id": name, "summary": text})


def test_lines_are_written_whole_and_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.jsonl"
    write_lines(path, [b"1\n", b"2\n"])
    assert path.read_bytes() == b"1\n2\n"
    assert _names(path.parent) == ["out.jsonl"]


def test_lines_go_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_lines("-", [b"1\n", "é\n".encode()])
    assert capfdbinary.readouterr().out == b"1\n\xc3\xa9\n"


def _breaks() -> Iterator[bytes]:
    yield b"new\n"
    raise RuntimeError("a bug in the middle")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        write_bytes(path, _breaks())
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["out"]


def test_a_write_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from trec_cli.core.outputs import atomic\n"
        "with atomic(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'new')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_what_killed_writes_left_goes_with_the_next_write(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".out.{ended.pid}.tmp", f"..out.{ended.pid}.tmp.{ended.pid}.tmp"]
    others = [f".out.{os.getppid()}.tmp", f".out2.{ended.pid}.tmp", ".out.mine.tmp"]
    for name in (*left, *others):
        (tmp_path / name).touch()
    write_bytes(tmp_path / "out", [b"new"])
    assert _names(tmp_path) == sorted(["out", *others])


def test_an_output_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "out"
    with pytest.raises(UsageError, match=r"file is a file, not a folder: .*another --out"):
        write_bytes(path, [b""])
    with pytest.raises(UsageError, match=r"file is a file, not a folder"), locked(path):
        pass


def _limited(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that may write files of 4 KiB at most, as on a full disk."""
    head = (
        "import resource, sys\nfrom pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    )
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    # What measures coverage would write a file, too, and fail.
    plain = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=plain)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    code = (
        "from trec_cli.core.errors import OutputFailed\n"
        "from trec_cli.core.outputs import write_bytes\n"
        "try:\n    write_bytes(Path(sys.argv[1]), [b'x' * 9999])\n"
        "except OutputFailed as error:\n    print(error)\n    sys.exit(error.exit_code)\n"
    )
    done = _limited(code, path)
    assert (done.returncode, done.stderr) == (5, "")
    assert "Nothing half-written was left" in done.stdout
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["out"]


def test_a_journal_on_a_full_disk_continues_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "out"
    code = (
        "from trec_cli.core.errors import OutputFailed\nfrom trec_cli.core.jsonl import encode\n"
        "from trec_cli.core.outputs import Journal\n"
        "journal = Journal(Path(sys.argv[1]), {'k': 3})\n"
        "try:\n"
        "    for name in 'ab':\n"
        "        line = encode({'example_id': name, 'summary': 'x' * 3000})\n"
        "        journal.append([(name, line)])\n"
        "except OutputFailed as error:\n    sys.exit(error.exit_code)\n"
    )
    assert _limited(code, path).returncode == 5
    assert not path.exists()
    journal = Journal(path, {"k": 3})
    assert list(journal.records) == ["a"]
    journal.append([_record("b")])
    _finish(journal, "ab")
    assert path.read_bytes() == encode({"example_id": "a", "summary": "x" * 3000}) + _record("b")[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_a_clear_error() -> None:
    code = (
        "import sys\nfrom trec_cli.core.errors import OutputFailed\n"
        "from trec_cli.core.outputs import write_lines\n"
        "try:\n    write_lines('-', [b'x' * 9999])\n"
        "except OutputFailed as error:\n"
        "    print(error, file=sys.stderr)\n    sys.exit(error.exit_code)\n"
    )
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("cannot write standard output: No space left on device")
    assert "Exception ignored" not in done.stderr


def test_a_closed_pipe_stays_a_closed_pipe() -> None:
    code = "from trec_cli.core.outputs import write_lines; write_lines('-', [b'x' * 99] * 9999)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "BrokenPipeError" in process.stderr.read()


HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom trec_cli.core.outputs import locked\n"
    "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
)


def test_a_second_writer_is_refused_until_the_first_is_gone_even_by_kill(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputLocked, match="is being written by another trec run") as caught:
            locked(path).__enter__()
        assert caught.value.exit_code == 2
        with locked(tmp_path / "other.jsonl"):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with locked(path):
        pass


def test_an_error_of_the_work_is_not_taken_for_one_of_the_lock(tmp_path: Path) -> None:
    for error in (BrokenPipeError("gone"), OSError("other disk"), InputError.of("f", "bad")):
        with pytest.raises(type(error)) as caught, locked(tmp_path / "out"):
            raise error
        assert caught.value is error


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "out"):
        raise RuntimeError
    with locked(tmp_path / "out"):
        pass


def test_of_nested_settings_only_what_differs_is_named_in_plain_words() -> None:
    old = {"prompt": {"recent": 3, "max_length": 512}, "by": ["a", "b"], "chat": True}
    new = {"prompt": {"recent": 2, "max_length": 512}, "by": [], "chat": False}
    assert list(map(str, changed_settings(old, new))) == [
        "by: a, b before, not given now",
        "chat: yes before, no now",
        "prompt.recent: 3 before, 2 now",
    ]


def test_settings_that_differ_are_named_with_both_values() -> None:
    old, new = {"k": 3, "same": 1, "gone": 2}, {"k": 5, "same": 1, "added": None}
    told = list(map(str, changed_settings(old, new)))
    assert told == ["gone: 2 before, not given now", "k: 3 before, 5 now"]


def test_settings_become_what_json_gives_back() -> None:
    assert plain_settings({"ks": (1, 2), "rate": 0.5}) == {"ks": [1, 2], "rate": 0.5}


def test_a_journal_ends_in_the_order_asked_for_and_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    journal = Journal(path, SETTINGS)
    journal.append([_record("b"), _record("a")])
    assert journal.has("ab")
    assert not journal.has("abc")
    journal.append([_record("c")])
    _finish(journal, "abc")
    assert path.read_bytes() == b"".join(_record(name)[1] for name in "abc")
    journal.discard()
    assert _names(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_journal_drops_a_torn_last_line_and_nothing_else(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out.jsonl"
    Journal(path, SETTINGS).append([_record("a", "é\u2028\r"), _record("b", "é")])
    file = tmp_path / ".out.jsonl.partial"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    again = Journal(path, SETTINGS)
    assert again.records == dict([_record("a", "é\u2028\r")])
    again.append([_record("b", "é")])
    assert file.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b'{"settings": {"mo'])
def test_a_journal_without_a_whole_first_line_starts_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".out.jsonl.partial").write_bytes(content)
    assert Journal(tmp_path / "out.jsonl", SETTINGS).records == {}
    assert Journal(tmp_path / "out.jsonl", SETTINGS).records == {}


def test_a_journal_that_is_none_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".out.jsonl.partial").write_bytes(b"something else\n")
    with pytest.raises(InputError, match="--overwrite"):
        Journal(tmp_path / "out.jsonl", SETTINGS)
    Journal(tmp_path / "out.jsonl", SETTINGS, overwrite=True)


def test_a_journal_refuses_other_settings_unless_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    Journal(path, SETTINGS).append([_record("a")])
    with pytest.raises(SettingsChanged, match=r"k: 3 before, 5 now.*--overwrite") as caught:
        Journal(path, {**SETTINGS, "k": 5})
    assert caught.value.exit_code == 2
    assert Journal(path, {**SETTINGS, "k": 5}, overwrite=True).records == {}


def test_a_journal_without_records_gives_way_to_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    Journal(path, SETTINGS)
    Journal(path, {**SETTINGS, "k": 5}).append([_record("a")])
    with pytest.raises(SettingsChanged):
        Journal(path, SETTINGS)


@pytest.mark.parametrize("garbled", [b"\0\0\n", b"{}\n", b"[]\n", b"\n", b'{"example_id": 5}\n'])
def test_a_journal_drops_garbled_lines(tmp_path: Path, garbled: bytes) -> None:
    path = tmp_path / "out.jsonl"
    Journal(path, SETTINGS).append([_record("a"), ("x", garbled), _record("b")])
    assert Journal(path, SETTINGS).records == dict([_record("a"), _record("b")])


def test_a_tuple_in_the_settings_is_no_change(tmp_path: Path) -> None:
    Journal(tmp_path / "out", {"ks": (3, 5)}).append([_record("a")])
    assert Journal(tmp_path / "out", {"ks": (3, 5)}).has("a")


def test_a_batch_done_again_replaces_its_records(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    Journal(path, SETTINGS).append([_record("a", "old")])
    Journal(path, SETTINGS).append([_record("a", "new")])
    journal = Journal(path, SETTINGS)
    _finish(journal, "a")
    assert path.read_bytes() == _record("a", "new")[1]


def test_a_temporary_name_is_gone_when_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed), atomic(tmp_path / "out"):
        pass
    assert _names(tmp_path) == []


def test_overwriting_continues_what_a_killed_overwriting_run_had_finished(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    Journal(path, SETTINGS, overwrite=True).append([_record("a")])
    assert list(Journal(path, SETTINGS, overwrite=True).records) == ["a"]


def test_the_journal_of_finished_work_goes_and_that_of_other_settings_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    discard_leftover(path, SETTINGS)
    assert _names(tmp_path) == []
    Journal(path, SETTINGS).append([_record("a")])
    discard_leftover(path, {**SETTINGS, "k": 5})
    assert list(Journal(path, SETTINGS).records) == ["a"]
    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", _refuse)
        discard_leftover(path, SETTINGS)
    assert _names(tmp_path) == [".out.jsonl.partial"]
    discard_leftover(path, SETTINGS)
    assert _names(tmp_path) == []
    (tmp_path / ".out.jsonl.partial").mkdir()
    discard_leftover(path, SETTINGS)


def _refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_journal_that_is_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".out.jsonl.partial").mkdir()
    with pytest.raises(InputError, match="is a folder where a stopped run's work should be"):
        Journal(tmp_path / "out.jsonl", {})


def test_finished_work_in_a_read_only_folder_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filelock.FileLock.acquire", _refuse)
    with pytest.raises(OutputFailed, match="Read-only"), locked(tmp_path / "new"):
        pass
    (tmp_path / "old").write_bytes(b"")
    with locked(tmp_path / "old"):
        pass
