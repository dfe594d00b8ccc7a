"""Models load from safetensors alone; what is missing is one clear sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from samples.tiny_model import FAMILIES, build_model
from trec_cli.core.errors import ModelError
from trec_cli.models.load import (
    load_adapted,
    load_config,
    load_model,
    load_tokenizer,
    model_identity,
)
from trec_cli.models.source import ModelSource

TinyModel = Callable[..., Path]


def _source(folder: Path | str) -> ModelSource:
    return ModelSource(str(folder), device="cpu")


@pytest.fixture
def copy(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may break."""
    return shutil.copytree(tiny_model(), tmp_path / "model")


def _why(source: ModelSource) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(source)
    assert caught.value.exit_code == 4
    return str(caught.value)


def _pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")


def test_a_folder_loads_in_eval_mode_with_its_tokenizer(tiny_model: TinyModel) -> None:
    loaded = load_model(_source(tiny_model()))
    assert not loaded.model.training
    assert (loaded.device.type, loaded.placement.dtype) == ("cpu", torch.float32)
    assert loaded.max_positions == 4096
    assert loaded.tokenizer.decode(loaded.tokenizer("tea 茶")["input_ids"]) == "tea 茶"


def test_the_dtype_asked_for_is_that_of_the_weights(tiny_model: TinyModel) -> None:
    loaded = load_model(ModelSource(str(tiny_model()), device="cpu", dtype="bfloat16"))
    assert loaded.model.dtype == torch.bfloat16


def test_tokenizer_and_config_load_without_weights(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert load_tokenizer(_source(copy)).eos_token_id == 1
    assert load_config(_source(copy)).model_type == "llama"


@pytest.mark.parametrize("name", ["models/none", "./none", "/none/at/all"])
def test_a_missing_folder_is_named_and_no_hub_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    for kind in ("AutoTokenizer", "AutoConfig", "AutoModelForCausalLM"):
        monkeypatch.setattr(f"trec_cli.models.load.{kind}.from_pretrained", asked)
    assert _why(_source(name)).startswith(f"no model folder {name}. Check the path")


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    assert "is not a model folder: it has no config.json" in _why(_source(tmp_path))


def test_a_file_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert "no model folder" in _why(_source(tmp_path / "model.gguf"))


def test_pickled_weights_are_refused(copy: Path) -> None:
    _pickle_weights(copy)
    assert "has no safetensors weights, and trec loads nothing else" in _why(_source(copy))


def test_a_folder_without_weights_says_so(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    assert "has no safetensors weights" in _why(_source(copy))


@pytest.mark.parametrize("kept", [0, 4, 1000, 60_000])
def test_damaged_weights_are_explained(copy: Path, kept: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    why = _why(_source(copy))
    assert str(copy) in why
    assert "damaged" in why


def test_a_model_that_lacks_weights_is_refused_not_filled_with_noise(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    why = _why(_source(copy))
    assert "lack 1 weights, for example model.layers.1.mlp.up_proj.weight" in why


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_loads_whole(tiny_model: TinyModel, family: str) -> None:
    loaded = load_model(_source(tiny_model(family)))
    assert loaded.model.config.get_text_config().model_type == family


def test_weights_of_another_shape_are_explained(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 64, "head_dim": 16}))
    assert str(copy) in _why(_source(copy))


@pytest.mark.parametrize("content", ["{", "{}", '{"model_type": "none"}'])
def test_a_broken_config_is_explained(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    assert str(copy) in _why(_source(copy))


def test_a_missing_tokenizer_is_explained(copy: Path) -> None:
    for file in copy.glob("tokenizer*"):
        file.unlink()
    assert str(copy) in _why(_source(copy))


def test_code_of_a_model_runs_only_where_allowed(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config.update(
        model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}
    )
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "own.py").write_text("raise SystemExit('this code ran')")
    assert "allow it with --trust-remote-code if you trust it" in _why(_source(copy))


def test_a_name_that_no_hub_answers_for_says_what_to_do() -> None:
    why = _why(_source("nobody/nothing"))
    assert "model nobody/nothing could not be loaded" in why
    assert "--model models/SmolLM2-135M-Instruct" in why


def test_a_folders_identity_follows_its_content_not_its_place(copy: Path, tmp_path: Path) -> None:
    before = model_identity(_source(copy))
    other = shutil.copytree(copy, tmp_path / "elsewhere" / "model")
    assert model_identity(_source(other)) == before
    assert before["name"] == "model"
    (other / "README.md").write_text("words change nothing")
    assert model_identity(_source(other)) == before
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "model.safetensors").write_bytes(weights)
    assert model_identity(_source(other))["revision"] != before["revision"]


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "tokenizer.json"])
def test_a_model_folder_is_another_one_when_a_file_that_decides_answers_changes(
    tmp_path: Path, tiny_model: TinyModel, name: str
) -> None:
    folder = shutil.copytree(tiny_model(), tmp_path / "model")
    before = model_identity(ModelSource(str(folder)))
    with (folder / name).open("a") as stream:
        stream.write("\n")
    after = model_identity(ModelSource(str(folder)))
    assert after["name"] == before["name"]
    assert after["revision"] != before["revision"]


@pytest.fixture
def adapter(tmp_path: Path, tiny_model: TinyModel) -> Path:
    """Write an adapter of the tiny Llama."""
    from trec_cli.train.lora import add_adapter, save_adapter
    from trec_cli.train.settings import TrainSettings

    save_adapter(add_adapter(build_model("llama"), TrainSettings()), tmp_path / "adapter")
    return tmp_path / "adapter"


ODD = [
    {"lora_alpha": None},
    {"lora_alpha": "x"},
    {"lora_dropout": [1]},
    {"target_modules": 5},
    {"target_modules": [1]},
    {"bias": {}},
    {"rank_pattern": None},
    {"init_lora_weights": 1e308},
    {"peft_type": "NOTHING"},
    {"r": 0},
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # peft has its own
@pytest.mark.parametrize("change", ODD)
def test_an_odd_adapter_configuration_is_a_model_error(
    adapter: Path, tiny_model: TinyModel, change: dict[str, Any]
) -> None:
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ModelError, match=r"adapter .* does not fit model"):
        load_adapted(ModelSource(str(tiny_model())), adapter)


@pytest.mark.parametrize("content", ["", "[]", '{"r', "null", "3"])
def test_a_damaged_adapter_configuration_is_a_model_error(
    adapter: Path, tiny_model: TinyModel, content: str
) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"adapter .* does not fit model"):
        load_adapted(ModelSource(str(tiny_model())), adapter)


@pytest.mark.parametrize("modules", [["q_proj"], ["gate_proj"], ["q_proj", "up_proj"]])
def test_an_adapter_of_other_modules_than_it_names_is_refused(
    adapter: Path, tiny_model: TinyModel, modules: list[str]
) -> None:
    """peft itself leaves out what it does not know, and trains what is missing from zero."""
    load_adapted(ModelSource(str(tiny_model())), adapter)
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "target_modules": modules}))
    with pytest.raises(ModelError, match="weights are of other modules"):
        load_adapted(ModelSource(str(tiny_model())), adapter)


def test_an_adapter_without_safetensors_is_refused(adapter: Path, tiny_model: TinyModel) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors"):
        load_adapted(ModelSource(str(tiny_model())), adapter)
