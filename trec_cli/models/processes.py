"""Several processes of one command, as ``torchrun`` or ``accelerate launch`` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from trec_cli.core.errors import UsageError

if TYPE_CHECKING:
    from trec_cli.models.source import ModelSource

_LONGEST = timedelta(days=30)


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is; the launcher says it in the environment."""

    rank: int
    local_rank: int
    count: int

    @classmethod
    def here(cls) -> "Processes":
        """Read what the launcher has set; a single process without one."""
        rank, local, count = (
            int(os.environ.get(name, default))
            for name, default in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
        )
        return cls(rank, local, count)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def place(self, source: "ModelSource") -> "ModelSource":
        """Place each process on a GPU of its own, where there are GPUs.

        Raises:
            UsageError: a GPU other than the first is asked for; the Trainer takes the first.
        """
        if source.device.startswith("cuda:") and source.device != "cuda:0":
            number = source.device.removeprefix("cuda:")
            raise UsageError(
                f"--device {source.device}: training takes the first visible GPU; "
                f"choose with CUDA_VISIBLE_DEVICES={number} --device cuda"
            )
        if self.count == 1 or source.device not in ("auto", "cuda"):
            return source
        import torch  # the command asks for the processes before it needs torch

        alone = not torch.cuda.is_available()
        return source if alone else replace(source, device=f"cuda:{self.local_rank}")

    @property
    def deal_out_weights(self) -> bool:
        """Whether no process has the whole model: FSDP, as ``accelerate launch`` says it."""
        return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"

    def check(self, *, quantized: bool) -> None:
        """Refuse ways of dealing out weights that training does not know.

        Raises:
            UsageError: naming what to do instead.
        """
        if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
            raise UsageError(
                "ZeRO stage 3 is not supported: take stage 2, or FSDP, which deals out the "
                "weights, too (samples/cluster/)"
            )
        if not self.deal_out_weights:
            return
        if os.environ.get("FSDP_VERSION") != "2":
            raise UsageError("FSDP needs fsdp_version: 2 (see samples/cluster/fsdp-7b.yaml)")
        if quantized:
            raise UsageError(
                "--quantize cannot be used with FSDP: a quantized model is small enough to be "
                "whole on every GPU, so start the processes without it"
            )

    @contextmanager
    def main_first(self, *, cpu: bool) -> Iterator[None]:
        """Let the main process end the block before the others begin it, however long it takes.

        The group that they wait in is the one that they train in afterwards: ``cpu`` says where.
        """
        if self.count == 1:
            yield
            return
        from accelerate import PartialState

        with PartialState(cpu=cpu, timeout=_LONGEST).main_process_first():
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """Hold the processes together: nobody leaves the block before all have ended it.

        They send each other nothing else, so any network will do (gloo), and one may be days
        ahead.  A launcher ends all when one fails.
        """
        from torch import distributed

        distributed.init_process_group("gloo", timeout=_LONGEST)
        try:
            yield
            distributed.barrier()
        finally:
            distributed.destroy_process_group()
