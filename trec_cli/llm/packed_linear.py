"""Linear layers of a frozen model with their weights packed once, for the CPU.

A product with few rows (a decoding step, a short prompt) spends much of its time in bringing
the weights into the order in which the processor reads them, again in every call.  oneDNN,
which comes with torch, can keep that order.  Measured on two AVX2 cores, 1536 x 576 weights,
GFLOP/s before and after: 4 rows 18 and 52, 24 rows 80 and 151, 1,000 rows 164 and 187.

Only float32 on the CPU, and only where torch was built with oneDNN; elsewhere, and where a
first product comes out differently, the model stays as it is.
"""

from typing import Any

import torch
from torch import Tensor, nn

_TOLERANCE = 1e-3
_MOST_TRAINED = 4 << 30
"""Bytes of weights up to which training keeps both orders; above it stays as it was."""


class PackedLinear(nn.Module):
    """A frozen linear layer that computes with packed weights.

    Gradients flow to its input, never to its weights.

    Attributes:
        in_features, out_features, bias: as of ``nn.Linear``.
    """

    def __init__(self, layer: nn.Linear, *, backward: bool) -> None:
        """Pack the weights of ``layer``; with ``backward`` also for gradients."""
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        weight = layer.weight.detach()
        self._packed = _pack(weight)
        self._turned = _pack(weight.t().contiguous()) if backward else None

    @property
    def weight(self) -> Tensor:
        """The weights [out, in] in their plain order: a fresh copy."""
        return self._packed.to_dense()

    def forward(self, states: Tensor) -> Tensor:
        """Give ``states`` [..., in] times the weights, plus the bias: [..., out]."""
        if torch.is_grad_enabled() and states.requires_grad:
            out: Tensor = _WithGradient.apply(  # type: ignore[no-untyped-call]
                states, self._packed, self._turned, self.bias
            )
            return out
        return _product(states, self._packed, self.bias)

    def extra_repr(self) -> str:
        """Describe the layer as ``nn.Linear`` does."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _WithGradient(torch.autograd.Function):
    """The product, differentiable by its input; oneDNN's own has no gradient."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, packed: Tensor, turned: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        ctx.packed, ctx.turned = packed, turned
        return _product(states, packed, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if ctx.turned is None:
            return gradient @ ctx.packed.to_dense(), None, None, None
        return _product(gradient, ctx.turned, None), None, None, None


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def _product(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return out


def pack_linears(model: nn.Module, *, head: bool = False, backward: bool = False) -> int:
    """Put packed layers in place of the frozen linear layers of a model.

    Weights in their plain order are given up, unless something else holds them (a tied
    embedding).

    Args:
        model: with adapters on it already, if it gets any.
        head: also the LM head: for decoding.
        backward: for training: gradients are computed with packed weights too.

    Returns:
        How many layers were replaced; 0 where packing is not possible here.
    """
    kept = None if head else getattr(model, "get_output_embeddings", lambda: None)()
    places = [
        (parent, name)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if layer is not kept and _can_pack(layer, frozen=backward)
    ]
    layers = [getattr(parent, name) for parent, name in places]
    size = sum(layer.weight.nbytes for layer in layers)
    if not layers or (backward and size > _MOST_TRAINED) or not _exact(layers[0]):
        return 0
    del layers  # so that each layer's plain weights go as its packed ones come
    for parent, name in places:
        setattr(parent, name, PackedLinear(getattr(parent, name), backward=backward))
    return len(places)


def available() -> bool:
    """Tell whether this torch can pack weights."""
    built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _can_pack(layer: nn.Module, *, frozen: bool) -> bool:
    """Tell whether a layer is one to pack; with ``frozen`` only if it is not trained."""
    return (
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype is torch.float32
        and not (frozen and layer.weight.requires_grad)
        and available()
    )


def _exact(layer: nn.Linear) -> bool:
    """Tell whether a packed layer gives what the layer itself gives."""
    states = torch.linspace(-1, 1, 3 * layer.in_features).reshape(1, 3, -1)
    with torch.inference_mode():
        try:
            packed = PackedLinear(layer, backward=False)(states)
        except RuntimeError:  # an operator of torch's own that may change
            return False
        plain = layer(states)
        return bool(torch.allclose(packed, plain, atol=_TOLERANCE, rtol=_TOLERANCE))
