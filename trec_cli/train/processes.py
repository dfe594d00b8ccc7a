"""Training in several processes, as ``torchrun`` or ``accelerate launch`` starts them."""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trec_cli.core.errors import UsageError

if TYPE_CHECKING:
    from trec_cli.models.source import ModelSource


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
