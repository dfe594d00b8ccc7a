"""Which modules get an adapter, and what is refused before loading."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from samples.tiny_model import build_model
from trec_cli.core.errors import UsageError
from trec_cli.models.device import Placement
from trec_cli.train import lora
from trec_cli.train.lora import (
    add_adapter,
    check_quantization,
    pick_targets,
    quantization,
    save_adapter,
)
from trec_cli.train.settings import LoraSettings, TrainSettings


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        ("gemma3_text", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        ("qwen2", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        ("opt", ["q_proj", "k_proj", "v_proj", "out_proj"]),
        ("gpt_neox", ["query_key_value", "dense"]),
    ],
)
def test_the_attention_projections_of_a_family_are_picked(family: str, expected: list[str]) -> None:
    model = build_model(family)
    assert pick_targets(model) == expected
    adapted = add_adapter(model, TrainSettings())
    places = {
        name.split(".lora_A")[0].rpartition(".")[2]
        for name, _ in adapted.named_parameters()
        if "lora_A" in name
    }
    assert places == set(expected)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen2", "opt", "gpt_neox"])
def test_adapters_in_the_upper_layers_alone_leave_the_lower_ones_without_gradients(
    family: str,
) -> None:
    model = build_model(family)
    count = model.config.num_hidden_layers
    adapted = add_adapter(model, TrainSettings(lora=LoraSettings(layers=1)))
    names = [name for name, weight in adapted.named_parameters() if weight.requires_grad]
    assert {int(re.findall(r"\.(\d+)\.", name)[0]) for name in names} == {count - 1}
    seen = {}
    for name, module in adapted.named_modules():
        if name.endswith(("mlp", "fc2")):
            module.register_forward_hook(
                lambda _m, _i, out, name=name: seen.update({name: out.requires_grad})
            )
    logits = adapted(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert logits.requires_grad
    assert len(seen) == count
    assert not any(list(seen.values())[:-1])


@pytest.mark.parametrize("count", [2, 9])
def test_as_many_upper_layers_as_there_are_is_no_choice(count: int) -> None:
    settings = TrainSettings(lora=LoraSettings(layers=count))
    with pytest.raises(UsageError, match=f"--lora-layers {count}: the model has 2 layers"):
        add_adapter(build_model("llama"), settings)


def test_asked_modules_are_taken_if_they_are_there() -> None:
    model = build_model("llama")
    assert pick_targets(model, ("v_proj", "mlp.up_proj")) == ["v_proj", "mlp.up_proj"]
    with pytest.raises(
        UsageError, match=r"--target-modules nothing: .* down_proj, gate_proj, k_proj"
    ):
        pick_targets(model, ("v_proj", "nothing"))


def test_a_model_without_known_projections_asks_for_them() -> None:
    model = nn.ModuleDict({"mixer": nn.Linear(2, 2)})
    model.config = type("Config", (), {"model_type": "strange"})()
    with pytest.raises(UsageError, match=r"strange model.*--target-modules.*mixer"):
        pick_targets(model)


def test_the_seed_decides_the_first_weights() -> None:
    def first(seed: int) -> torch.Tensor:
        model = add_adapter(build_model("llama"), TrainSettings(seed=seed))
        weights: list[torch.Tensor] = [
            p.detach() for name, p in model.named_parameters() if "lora_A" in name
        ]
        return weights[0]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_only_the_adapter_is_saved(tmp_path: Path) -> None:
    settings = TrainSettings(lora=LoraSettings(rank=4, alpha=8))
    save_adapter(add_adapter(build_model("llama"), settings), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
    }
    assert all("lora_" in name for name in load_file(tmp_path / "adapter_model.safetensors"))


def test_the_configuration_names_modules_in_one_order(tmp_path: Path) -> None:
    """Written out, peft's set of names would change with every hash seed."""
    save_adapter(add_adapter(build_model("llama"), TrainSettings()), tmp_path)
    content = json.loads((tmp_path / "adapter_config.json").read_text())
    assert content["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert list(content) == sorted(content)


def test_quantization_without_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_quantization(None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--quantize 4bit needs an NVIDIA GPU"):
        check_quantization("4bit")


def test_quantization_without_bitsandbytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'trec-cli\[quantize\]'"):
        check_quantization("8bit")


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_each_process_loads_a_quantized_base_onto_its_own_gpu(device: str, number: int) -> None:
    placement = Placement(torch.device(device), torch.bfloat16, "")
    assert quantization("8bit", placement)["device_map"] == {"": number}
    assert quantization(None, placement) == {}
