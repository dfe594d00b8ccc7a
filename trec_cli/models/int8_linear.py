"""Linear layers of a model in 8 bits, weights and inputs, for the CPU.

Each output of a layer has its own scale for its weights, each token its own for its states;
the product between is one of whole numbers, so what a token becomes does not depend on the
scale of what is computed beside it.  A few states are much larger than the others and would
leave these only a few steps; so states, and with them the weights, are turned before they are
rounded, sixteen by sixteen with a Hadamard matrix, which spreads each over all sixteen and
leaves the product as it is (QuaRot, Ashkboos et al. 2024, section 3).

Measured on one core with AVX-512 and VNNI, 1536 x 576 weights, GFLOP/s of packed float32,
packed bfloat16 and this (rounding included, turning not): 4 rows 59, 116, 94; 24 rows 91, 181,
248; 1,000 rows 105, 193, 300.  Of SmolLM2-135M 600 tokens of titles have a mean log-likelihood
of -4.000 in float32 and -3.997 in 8 bits; the likeliest token is the same for 94 % (85 % without
turning; 98 % in bfloat16).
"""

import math
from functools import cache

import torch
from torch import Tensor, nn

from trec_cli.models.packed_linear import plain_linears

_LARGEST = 127
_TURNED = 16
"""Values that are turned together; 64 would be a little closer, for three times the time."""
_ROWS = 256
"""Rows computed at once: what stands between the steps of more does not fit the caches."""


class Int8Linear(nn.Module):
    """A linear layer that turns weights and states and rounds them to 8 bits; no gradients.

    Attributes:
        in_features, out_features, bias: as of ``nn.Linear``.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Round the weights of ``layer``."""
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        self._steps, rounded = _rounded(_turned(layer.weight.detach().float()))
        self._weight = rounded.T.contiguous()

    @property
    def weight(self) -> Tensor:
        """The rounded weights [out, in]: a fresh copy."""
        return _turned(self._weight.T * self._steps)

    def forward(self, states: Tensor) -> Tensor:
        """Multiply ``states`` [..., in] by the weights, plus the bias: [..., out]."""
        rows = states.reshape(-1, self.in_features)
        out = rows.new_empty(len(rows), self.out_features)
        for start in range(0, len(rows), _ROWS):
            steps, rounded = _rounded(_turned(rows[start : start + _ROWS].float()))
            product = torch._int_mm(rounded, self._weight).float()
            out[start : start + _ROWS] = product.mul_(steps).mul_(self._steps[:, 0])
        if self.bias is not None:
            out += self.bias
        return out.view(*states.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Describe the layer as ``nn.Linear`` does."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _turned(rows: Tensor) -> Tensor:
    """Turn rows [rows, size] part by part; twice gives them back."""
    part = min(_TURNED, rows.shape[1] & -rows.shape[1])
    turned: Tensor = rows.reshape(-1, part) @ _hadamard(part)
    return turned.view(rows.shape)


@cache
def _hadamard(size: int) -> Tensor:
    """Return the orthogonal, symmetric matrix of Sylvester's construction: [size, size]."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix / math.sqrt(size)


def _rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round rows to whole numbers of steps: the steps [rows, 1], and how many [rows, size].

    The largest value of a row is 127 steps; NaN and infinity stay visible in the steps.
    """
    steps = rows.abs().amax(dim=1, keepdim=True).mul_(1 / _LARGEST)
    steps = steps.clamp_(min=torch.finfo(torch.float32).tiny)
    return steps, (rows / steps).round_().to(torch.int8)


def round_linears(model: nn.Module, *, head: bool = False) -> int:
    """Replace the linear layers of a model that is only asked with layers in 8 bits.

    Args:
        model: on the CPU, with its adapter folded in already, if it gets one.
        head: also the LM head: for decoding.

    Returns:
        How many layers were replaced.
    """
    found = plain_linears(model, head=head)
    for parent, name, layer in found:
        setattr(parent, name, Int8Linear(layer))
    return len(found)


def is_rounded(model: nn.Module) -> bool:
    """Check whether a model computes in 8 bits."""
    return any(isinstance(module, Int8Linear) for module in model.modules())


def is_fast() -> bool:
    """Check whether the processor multiplies 8-bit numbers faster than float32."""
    built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return built and bool(torch.cpu._is_vnni_supported())
