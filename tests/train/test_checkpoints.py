"""Only whole checkpoints are used."""

from pathlib import Path

import pytest

from trec_cli.train.checkpoints import (
    MARKER,
    checkpoint_folders,
    latest_complete,
    mark_complete,
    remove_broken,
)


def checkpoint(folder: Path, step: int, *, whole: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "optimizer.pt").write_bytes(b"x" * step)
    (path / "trainer_state.json").write_text("{}")
    if whole:
        mark_complete(path)
    return path


def test_the_newest_whole_checkpoint_is_found_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert latest_complete(tmp_path) == tmp_path / "checkpoint-100"


def test_a_checkpoint_cut_off_by_a_kill_is_not_used(tmp_path: Path) -> None:
    good = checkpoint(tmp_path, 10)
    cut = checkpoint(tmp_path, 20, whole=False)
    assert latest_complete(tmp_path) == good
    assert remove_broken(tmp_path) == [cut]
    assert checkpoint_folders(tmp_path) == [good]


@pytest.mark.parametrize("damage", ["shorter", "gone", "marker"])
def test_a_checkpoint_that_changed_after_its_marker_is_not_used(
    tmp_path: Path, damage: str
) -> None:
    path = checkpoint(tmp_path, 10)
    if damage == "shorter":
        (path / "optimizer.pt").write_bytes(b"x")
    elif damage == "gone":
        (path / "trainer_state.json").unlink()
    else:
        (path / MARKER).write_text('{"optimizer')
    assert latest_complete(tmp_path) is None


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert latest_complete(tmp_path) is None
    assert latest_complete(tmp_path / "absent") is None
