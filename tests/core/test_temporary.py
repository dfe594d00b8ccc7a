"""What lies in TMPDIR goes, and a full TMPDIR is blamed on itself."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trec_cli.core.errors import PartialError
from trec_cli.core.temporary import room_explained, temporary_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder in which temporary ones are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_after_the_block_and_after_an_error(folder: Path) -> None:
    with temporary_folder("test") as made:
        (made / "file").touch()
        assert made.parent == folder
    with pytest.raises(KeyError), temporary_folder("test") as made:
        raise KeyError
    assert not list(folder.iterdir())


def test_what_a_killed_run_left_goes_with_the_next_and_nothing_else(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    others = [f"trec-test-{os.getpid()}-a", "trec-test-x-a", f"trec-more-{ended.pid}-a", "mine"]
    for name in [f"trec-test-{ended.pid}-a", *others]:
        (folder / name).mkdir()
        (folder / name / "file").touch()
    with temporary_folder("test"):
        pass
    assert sorted(path.name for path in folder.iterdir()) == sorted(others)


def test_a_full_folder_is_named_with_the_remedy(folder: Path) -> None:
    with pytest.raises(PartialError, match="set TMPDIR") as caught, room_explained("keep it"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"cannot keep it in {folder}: No space left on device" in str(caught.value)


def test_another_error_stays_what_it_is() -> None:
    with pytest.raises(FileNotFoundError), room_explained("keep it"):
        raise FileNotFoundError(errno.ENOENT, "no such file")
