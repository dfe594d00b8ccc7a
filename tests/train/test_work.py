"""The folder of an unfinished training; only whole checkpoints are used."""

from pathlib import Path

import pytest

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.manifest import manifest_path
from trec_cli.train.work import (
    MARKER,
    Spent,
    WorkFolder,
    checkpoint_folders,
    latest_complete,
    mark_complete,
    read_spent,
    remove_broken,
    replace_folder,
)


def test_other_settings_are_refused_unless_overwritten(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "model-hier")
    work.open({"seed": 0, "targets": ("a",)})
    work.open({"seed": 0, "targets": ("a",)})
    (work.path / "checkpoint-5").mkdir()
    with pytest.raises(SettingsChanged, match="seed: 0 before, 1 now"):
        work.open({"seed": 1, "targets": ("a",)})
    work.open({"seed": 1}, overwrite=True)
    assert [path.name for path in work.path.iterdir()] == ["settings.json"]


def test_work_without_a_checkpoint_gives_way_to_other_settings(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "model-hier")
    work.open({"seed": 0})
    work.log.touch()
    work.open({"seed": 1})
    assert [path.name for path in work.path.iterdir()] == ["settings.json"]
    work.best.mkdir()
    with pytest.raises(SettingsChanged):
        work.open({"seed": 0})


def test_an_adapter_without_manifest_beside_its_work_is_unfinished(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "model-hier")
    assert not work.is_unfinished()
    work.open({"seed": 0})
    assert not work.is_unfinished()
    work.out.mkdir()
    assert work.is_unfinished()
    manifest_path(work.out).write_text("{}")
    assert not work.is_unfinished()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    fresh, final = tmp_path / "fresh", tmp_path / "final"
    for number in range(2):
        fresh.mkdir()
        (fresh / f"file{number}").touch()
        replace_folder(fresh, final)
        assert [path.name for path in final.iterdir()] == [f"file{number}"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_overwriting_continues_work_of_the_same_settings(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path / "model-hier")
    work.open({"seed": 0}, overwrite=True)
    (work.path / "checkpoint-5").mkdir()
    work.open({"seed": 0}, overwrite=True)
    assert (work.path / "checkpoint-5").is_dir()


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


@pytest.mark.parametrize("damage", ["shorter", "other", "gone", "more", "marker"])
def test_a_checkpoint_that_changed_after_its_marker_is_not_used(
    tmp_path: Path, damage: str
) -> None:
    path = checkpoint(tmp_path, 10)
    if damage == "shorter":
        (path / "optimizer.pt").write_bytes(b"x")
    elif damage == "other":
        (path / "optimizer.pt").write_bytes(b"y" * 10)
    elif damage == "more":
        (path / "adapter_model.bin").touch()
    elif damage == "gone":
        (path / "trainer_state.json").unlink()
    else:
        (path / MARKER).write_text('{"optimizer')
    assert latest_complete(tmp_path) is None


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert latest_complete(tmp_path) is None
    assert latest_complete(tmp_path / "absent") is None


def test_a_checkpoint_marked_with_sizes_by_an_earlier_version_is_used(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 10, whole=False)
    (path / MARKER).write_text('{"optimizer.pt": 10, "trainer_state.json": 2}')
    assert latest_complete(tmp_path) == path
    assert read_spent(path) == Spent()
    (path / MARKER).write_text('{"optimizer.pt": 11, "trainer_state.json": 2}')
    assert latest_complete(tmp_path) is None


@pytest.mark.parametrize("damage", ["settings", "no settings", "a file", "best adapter"])
def test_damaged_work_is_begun_again_with_a_warning(tmp_path: Path, damage: str) -> None:
    work = WorkFolder(tmp_path / "model-hier")
    work.open({"seed": 0})
    checkpoint(work.path, 10)
    if damage == "settings":
        (work.path / "settings.json").write_bytes(b"\xff{")
    elif damage == "no settings":
        (work.path / "settings.json").unlink()
    elif damage == "a file":
        work.remove()
        work.path.write_text("garbage")
    else:
        work.best.mkdir()
        (work.best / "adapter_model.safetensors").write_bytes(b"weights")
        mark_complete(work.best)
        work.open({"seed": 0}, warn=pytest.fail)
        (work.best / "adapter_model.safetensors").write_bytes(b"others!")
    warnings: list[str] = []
    work.open({"seed": 0}, warn=warnings.append)
    assert warnings == [f"{work.path} is damaged; training begins again"]
    assert [path.name for path in work.path.iterdir()] == ["settings.json"]


def test_what_was_spent_adds_up() -> None:
    assert Spent(1, 2, 3, 4, 5.0, 6.0) + Spent(tokens=7) == Spent(1, 2, 10, 4, 5.0, 6.0)
