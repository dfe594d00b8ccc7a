"""Data sets of the library ``datasets``, from folders; the Hub is never asked."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.prepare.helpers import read
from trec_cli.core.errors import InputError, UsageError
from trec_cli.prepare.archive import Source
from trec_cli.prepare.detect import detect

LOG: dict[str, list[Any]] = {
    "user_id": ["u", "u", "v"],
    "item_id": [2, 1, 2],
    "timestamp": [1_588_687_729_000, 1_588_687_728_000, 1_588_687_728_000],
    "rating": [5.0, None, 1.0],
}
ITEMS: dict[str, list[Any]] = {
    "item_id": [1, 2],
    "title": ["Zweite Größe", "Two"],
    "categories": [["A", "B"], []],
}


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def check(path: Path) -> None:
    items, questions = read(path)
    assert {i: item.attributes for i, item in items.items()} == {
        "1": {"title": "Zweite Größe", "categories": "A, B"},
        "2": {"title": "Two"},
    }
    asked = {q.user_id: (q.history, q.positives, q.timestamp, q.ratings) for q in questions}
    assert asked == {
        "u": (["1"], ["2"], 1_588_687_729, [None, 5.0]),
        "v": ([], ["2"], 1_588_687_728, [1.0]),
    }


def test_a_saved_dictionary_of_data_sets_is_read(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    parts = {"log": LOG, "items": ITEMS}
    made = {name: datasets.Dataset.from_dict(columns) for name, columns in parts.items()}
    datasets.DatasetDict(made).save_to_disk(str(saved))
    check(saved)
    check(Path(f"hf:{saved}"))


def test_data_sets_saved_side_by_side_are_read(tmp_path: Path) -> None:
    for name, columns in (("log", LOG), ("items", ITEMS)):
        datasets.Dataset.from_dict(columns).save_to_disk(str(tmp_path / "two" / name))
    check(tmp_path / "two")


def hub_folder(folder: Path, configs: int) -> Path:
    """Write a folder as it lies on the Hub: files, and configurations in the README."""
    folder.mkdir()
    lines = ["---", "configs:"]
    for number in range(configs):
        name = ("log", "items")[number] if number < 2 else f"other{number}"
        columns = ITEMS if name == "items" else LOG
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
        lines += [f"- config_name: {name}", f"  data_files: {name}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


def test_a_folder_as_on_the_hub_is_streamed(tmp_path: Path) -> None:
    check(Path(f"hf:{hub_folder(tmp_path / 'shop', 2)}"))


def test_of_many_configurations_some_must_be_named(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "shop", 5)
    with pytest.raises(UsageError, match=r"has 5 configurations: .*log.* name those of the log"):
        Source(Path(f"hf:{folder}"))
    check(Path(f"hf:{folder}:log,items"))


def test_messages_and_manifests_name_the_data_set(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "shop", 2)
    with Source(Path(f"hf:{folder}")) as source:
        found = detect(source)
        assert f"hf:{folder} (log.train)" in str(found)
        inputs = {str(file): "hash" for file in found.inputs}
        assert set(source.as_named(inputs)) == {
            f"hf:{folder} (log.train)",
            f"hf:{folder} (items.train)",
        }


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="hf:nobody/nothing: cannot be loaded"):
        Source(Path("hf:nobody/nothing"))
    with pytest.raises(InputError, match="cannot be loaded"):
        Source(Path(f"hf:{hub_folder(tmp_path / 'shop', 2)}:none"))
