"""Where a model runs: device and dtype chosen with the reason, lack of memory explained."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trec_cli.core.errors import ModelError, UsageError
from trec_cli.models import int8_linear

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INT8 = "int8"


@dataclass(frozen=True)
class Placement:
    """Where a model runs and in which precision, and why.

    Attributes:
        dtype: of everything that is not rounded further.
        int8: whether linear layers compute in 8 bits.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    int8: bool = False

    @property
    def precision(self) -> str:
        """Its name, as ``--dtype`` has it."""
        return INT8 if self.int8 else str(self.dtype).removeprefix("torch.")


def choose_device(device: str = "auto", dtype: str = "auto") -> Placement:
    """Choose device and dtype; ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    On CUDA ``auto`` means bfloat16 where the card computes in it, else float16; on the
    CPU and on MPS float32, because few of them are faster in anything less.

    Raises:
        UsageError: the device is not there, or the dtype has no such name.
    """
    chosen, why_device = _device(device)
    precision, why_dtype = _dtype(dtype, chosen)
    return Placement(chosen, precision, f"{chosen} ({why_device}), {why_dtype}", dtype == INT8)


def _device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), torch.cuda.get_device_name()
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU found"
        return torch.device("cpu"), f"no GPU found, {torch.get_num_threads()} threads"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used here: {reason}") from None
    return device, "as asked"


def _dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name == INT8:
        return torch.float32, _why_int8(device)
    if name != "auto":
        if name not in DTYPES:
            raise UsageError(f"--dtype {name}: choose one of auto, {', '.join(DTYPES)}, {INT8}")
        return DTYPES[name], f"{name} as asked"
    if device.type != "cuda":
        return torch.float32, "float32, the safe choice without CUDA"
    if torch.cuda.is_bf16_supported():
        return torch.bfloat16, "bfloat16, which this GPU supports"
    return torch.float16, "float16, as this GPU has no bfloat16"


def _why_int8(device: torch.device) -> str:
    if device.type != "cpu":
        raise UsageError(f"--dtype {INT8} is for the CPU; leave it out on {device}")
    slow = "" if int8_linear.is_fast() else "; slow here, as this processor has no VNNI"
    return f"{INT8} as asked, float32 outside of linear layers{slow}"


@contextmanager
def shortage_explained(what: str, advice: str) -> Iterator[None]:
    """Turn a lack of memory, on any device, into an error that says what to do.

    Args:
        what: was being done, as in ``scoring``.
        advice: a sentence.

    Raises:
        ModelError: there was not enough memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        raise ModelError(f"not enough memory for {what}. {advice} ({error})") from error


def is_shortage(error: Exception) -> bool:
    """Check whether an error is a lack of memory, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's and Apple's allocators have no class of error of their own.
    signs = ("allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
