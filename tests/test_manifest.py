"""Manifests tell what made a file, and whether it may be kept."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from trec_cli import __version__
from trec_cli.errors import InputError, SettingsChanged
from trec_cli.manifest import Provenance, file_hash, manifest_path, read_manifest, up_to_date


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
    with pytest.raises(SettingsChanged, match="inputs"):
        up_to_date(output, {**provenance.settings, "inputs": ["other", "stream"]})
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
