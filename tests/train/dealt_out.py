"""One of two processes: the tiny model dealt out by FSDP 2 does what the whole one does.

Run by ``tests/train/test_dealt_out.py``; accelerate knows no FSDP on the CPU, torch does.
"""

import torch
from peft import get_peft_model_state_dict
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tests.train.world import YES_NO, language_model, random_trees
from trec_cli.models.log_odds import BranchScorer
from trec_cli.train.lora import add_adapter, gathered
from trec_cli.train.loss import Objective
from trec_cli.train.settings import LoraSettings, TrainSettings
from trec_cli.train.trainer import collate, packed_loss


def main() -> None:
    """Compare scores, loss and adapter before and after the weights are dealt out."""
    distributed.init_process_group("gloo")
    settings = TrainSettings(lora=LoraSettings(dropout=0))
    model = add_adapter(language_model().model, settings).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(generator=torch.Generator().manual_seed(len(name)))
    labelled = random_trees(0, 3)
    trees = [each.tree for each in labelled]
    row, objective = collate(labelled, objective=Objective(YES_NO))["row"], Objective(YES_NO)
    scorer = BranchScorer(model, YES_NO, 4096)
    scores, loss = scorer(trees), packed_loss(model, model, row, objective=objective).item()
    adapter = {name: w.clone() for name, w in get_peft_model_state_dict(model).items()}
    assert gathered(model) is None

    mesh = init_device_mesh("cpu", (2,))
    for layer in model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(weights, DTensor) for weights in model.parameters())

    for found, expected in zip(scorer(trees), scores, strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=1e-4)
    dealt = packed_loss(model, model, row, objective=objective)
    torch.testing.assert_close(dealt.item(), loss, rtol=1e-5, atol=1e-5)
    torch.autograd.backward(dealt)
    assert any(w.grad is not None for n, w in model.named_parameters() if "lora_A" in n)
    weights_of_all = get_peft_model_state_dict(model, state_dict=gathered(model))
    assert weights_of_all.keys() == adapter.keys()
    for name, weights in adapter.items():
        torch.testing.assert_close(weights_of_all[name], weights, rtol=0, atol=0)
    print(f"process {distributed.get_rank()} saw the same")  # noqa: T201
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
