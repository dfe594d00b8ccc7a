"""What part of the machine each of several commands at once may use."""

import os
import shutil
import subprocess
from contextlib import suppress


def places(number: int) -> list[dict[str, str]]:
    """Give the environment of each of ``number`` commands that run at once.

    Alone, a command has the whole machine. Of several each has its share of the CPU's
    threads (more threads than cores slow all of them down many times), unless the user has
    set ``OMP_NUM_THREADS``, and sees one GPU, the GPUs being given out in turn.
    """
    mine = dict(os.environ)
    if number == 1:
        return [mine]
    threads = str(max(1, _cores() // number))
    shared = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", **mine}
    cards = gpus()
    return [
        {**shared, **({"CUDA_VISIBLE_DEVICES": cards[place % len(cards)]} if cards else {})}
        for place in range(number)
    ]


def gpus() -> list[str]:
    """Name the GPUs that a command would see, as ``CUDA_VISIBLE_DEVICES`` does.

    Torch is not asked: it takes seconds to import, and would hold memory on every GPU.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    program = shutil.which("nvidia-smi")
    with suppress(OSError, subprocess.SubprocessError):
        if program:
            listed = subprocess.run(
                [program, "-L"], capture_output=True, text=True, timeout=30, check=True
            ).stdout
            number = sum(line.startswith("GPU ") for line in listed.splitlines())
            return [str(index) for index in range(number)]
    return []


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
