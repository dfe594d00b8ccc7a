"""The configurations of accelerate in samples/cluster: every key is one that accelerate knows."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin

from tests.conftest import ROOT

FOLDER = ROOT / "samples" / "cluster"
FILES = sorted(FOLDER.glob("*.yaml"))


def names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_the_file_and_knows_every_key(path: Path) -> None:
    found = load_config_from_file(str(path))  # refuses keys that it does not know
    assert isinstance(found, ClusterConfig)
    launched = {action.dest for action in launch_command_parser()._actions}
    content = yaml.safe_load(path.read_text())
    assert content.keys() <= names(ClusterConfig)
    for key in content.get("fsdp_config", {}):
        own = key.removeprefix("fsdp_").replace("offload_params", "cpu_offload")
        assert key in launched
        assert key == "fsdp_version" or own in names(FullyShardedDataParallelPlugin)
    for key in content.get("deepspeed_config", {}):
        assert key in launched
        assert key in names(DeepSpeedPlugin)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_processes_are_those_that_the_comment_names(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert f"{content['num_processes']} GPUs of 80 GB" in path.read_text().splitlines()[0]


def test_both_sizes_have_both_ways() -> None:
    assert [path.stem for path in FILES] == [
        "deepspeed-70b",
        "deepspeed-7b",
        "fsdp-70b",
        "fsdp-7b",
    ]
