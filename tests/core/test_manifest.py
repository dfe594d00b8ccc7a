"""Manifests tell what made a file, and whether it may be kept."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trec_cli import __version__
from trec_cli.core.errors import InputError, SettingsChanged
from trec_cli.core.manifest import (
    Provenance,
    file_hash,
    is_unfinished,
    manifest_path,
    read_manifest,
    up_to_date,
)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Provenance]:
    """Give an output with its manifest, made from one file and standard input."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"source")
    provenance = Provenance("score", {"k": (3, 5), "seed": 0}, [source, "-"])
    provenance.details["device"] = "cpu"
    output.write_bytes(b"content")
    provenance.write(output, {"tokens": 12})
    return output, provenance


def _read(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(manifest_path(output).read_bytes())
    return content


def test_the_hash_of_a_file_is_what_sha256sum_gives(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    assert file_hash(path) == hashlib.sha256(b"abc").hexdigest()


def test_the_hash_of_a_folder_tells_names_and_contents(tmp_path: Path) -> None:
    hashes: set[str] = set()
    for name, content in [("a", b"1"), ("b", b"1"), ("a", b"2"), ("c/a", b"1")]:
        folder = tmp_path / f"{len(hashes)}"
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)
        hashes.add(file_hash(folder))
        assert file_hash(folder) == file_hash(folder)
    assert len(hashes) == 4


def test_a_manifest_holds_settings_hashes_versions_and_times(
    made: tuple[Path, Provenance],
) -> None:
    content = _read(made[0])
    assert content["output"] == "out.jsonl"
    assert content["command"] == "score"
    assert content["sha256"] == hashlib.sha256(b"content").hexdigest()
    source = hashlib.sha256(b"source").hexdigest()
    assert content["settings"] == {"k": [3, 5], "seed": 0, "inputs": [source, "stream"]}
    assert list(content["inputs"].values()) == [source, "stream"]
    assert (content["device"], content["tokens"]) == ("cpu", 12)
    assert content["versions"]["trec"] == __version__
    assert content["versions"].keys() >= {"python", "torch", "transformers", "numpy"}
    assert content["started"].endswith("Z")
    assert content["seconds"] >= 0
    assert content["processor_seconds"] > 0


def test_the_manifest_of_a_folder_lies_beside_it(tmp_path: Path) -> None:
    assert manifest_path(tmp_path / "model-hier") == tmp_path / "model-hier.manifest.json"


def test_a_missing_input_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Provenance("score", {}, [tmp_path / "none"])


def test_the_same_settings_keep_the_output(made: tuple[Path, Provenance]) -> None:
    output, provenance = made
    assert up_to_date(output, provenance.settings)
    assert not up_to_date(output, provenance.settings, overwrite=True)


def test_an_output_that_is_not_there_is_not_up_to_date(tmp_path: Path) -> None:
    assert not up_to_date(tmp_path / "none", {})


def test_a_changed_input_or_setting_is_refused_and_named(made: tuple[Path, Provenance]) -> None:
    output, provenance = made
    with pytest.raises(SettingsChanged, match="seed: 0 before, 1 now"):
        up_to_date(output, {**provenance.settings, "seed": 1})
    with pytest.raises(SettingsChanged, match=r"\(inputs: other content now in in.jsonl\)"):
        up_to_date(output, {**provenance.settings, "inputs": ["other", "stream"]})
    with pytest.raises(SettingsChanged, match="inputs: 2 files before, 1 now"):
        up_to_date(output, {**provenance.settings, "inputs": ["stream"]})
    assert not up_to_date(output, {**provenance.settings, "seed": 1}, overwrite=True)


def test_an_output_without_manifest_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.touch()
    assert read_manifest(output) is None
    with pytest.raises(SettingsChanged, match="no manifest"):
        up_to_date(output, {})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_manifest_that_is_none_is_explained(tmp_path: Path, content: bytes) -> None:
    output = tmp_path / "out"
    output.touch()
    manifest_path(output).write_bytes(content)
    with pytest.raises(InputError, match="is not a manifest"):
        up_to_date(output, {"k": 3})


_KILLED_BEFORE_THE_MANIFEST = """
import os, sys
from pathlib import Path
from trec_cli.core.manifest import Provenance
out = Path(sys.argv[1])
with Provenance("score", {"seed": 1}, []).publish(out):
    out.write_text("new")
    os._exit(9)
"""


def test_an_output_without_manifest_is_made_again_after_a_kill(tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    killed = subprocess.run([sys.executable, "-c", _KILLED_BEFORE_THE_MANIFEST, str(out)])
    assert killed.returncode == 9
    assert out.read_text() == "new"
    settings = Provenance("score", {"seed": 1}, []).settings
    assert not up_to_date(out, settings)
    with pytest.raises(SettingsChanged, match="seed: 1 before, 2 now"):
        up_to_date(out, {**settings, "seed": 2})
    assert not up_to_date(out, {**settings, "seed": 2}, overwrite=True)


def test_publishing_leaves_output_and_manifest_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    provenance = Provenance("score", {"seed": 1}, [])
    with provenance.publish(out) as details:
        out.write_text("new")
        details["users"] = 3
    assert up_to_date(out, provenance.settings)
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["users"] == 3
    assert {p.name for p in tmp_path.iterdir()} == {"scores.jsonl", "scores.jsonl.manifest.json"}


def test_a_run_that_fails_between_output_and_manifest_is_continued(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    provenance = Provenance("score", {"k": 1}, [])

    def fail() -> None:
        with provenance.publish(output):
            output.write_bytes(b"new")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert is_unfinished(output)
    assert not up_to_date(output, provenance.settings)
    with pytest.raises(SettingsChanged):
        up_to_date(output, {**provenance.settings, "k": 2})
    with provenance.publish(output):
        output.write_bytes(b"new")
    assert up_to_date(output, provenance.settings)
    assert not is_unfinished(output)


def test_a_run_that_fails_before_it_has_written_leaves_what_was_there(
    made: tuple[Path, Provenance],
) -> None:
    output, provenance = made
    other = Provenance("score", {"k": 9}, [])
    with pytest.raises(KeyboardInterrupt), other.publish(output):
        raise KeyboardInterrupt
    assert not is_unfinished(output)
    assert up_to_date(output, provenance.settings)


@pytest.mark.parametrize(
    "content",
    [
        b'{"settings": [1]}',
        b'{"inputs": {"a": 1}}',
        b'{"inputs": ["a"]}',
        b'{"command": 3}',
        b'{"arguments": "score"}',
        b'{"sha256": null}',
        b"[" * 5000,
    ],
)
def test_a_manifest_of_odd_types_is_explained(tmp_path: Path, content: bytes) -> None:
    output = tmp_path / "out"
    manifest_path(output).write_bytes(content)
    with pytest.raises(InputError, match="is not a manifest"):
        read_manifest(output)


def test_a_damaged_note_of_an_unfinished_run_is_explained(tmp_path: Path) -> None:
    (tmp_path / ".out.writing").write_bytes(b"{")
    with pytest.raises(InputError, match=r"\.out\.writing: .*remove it"):
        up_to_date(tmp_path / "out", {})
    assert not up_to_date(tmp_path / "out", {}, overwrite=True)
