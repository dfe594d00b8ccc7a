"""Linear layers of a model with their weights packed once, for the CPU.

A product with few rows (a decoding step, a short prompt) spends much of its time in bringing
the weights into the order in which the processor reads them, again in every call.  oneDNN,
which comes with torch, can keep that order.  Measured on two AVX2 cores, 1536 x 576 weights,
GFLOP/s before and after: 4 rows 18 and 52, 24 rows 80 and 151, 1,000 rows 164 and 187; in
bfloat16 on one AVX-512 core: 53 and 116, 146 and 181, 189 and 193.

Not for training: the gradient would need the weights in a second order, and rows are long
there; it was 0 to 4 % faster for twice the memory.

Only float32 and bfloat16 on the CPU, and only where torch was built with oneDNN; elsewhere,
and where a first product comes out differently, the model stays as it is.
"""

import torch
from torch import Tensor, nn

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""Of a product, by the dtypes that can be packed."""


class PackedLinear(nn.Module):
    """A linear layer that computes with packed weights, without gradients.

    Attributes:
        in_features, out_features, bias: as of ``nn.Linear``.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Pack the weights of ``layer``."""
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        self._packed = _pack(layer.weight.detach())

    @property
    def weight(self) -> Tensor:
        """The weights [out, in] in their plain order: a fresh copy."""
        return self._packed.to_dense()

    def forward(self, states: Tensor) -> Tensor:
        """Multiply ``states`` [..., in] by the weights, plus the bias: [..., out]."""
        return _product(states, self._packed, self.bias)

    def extra_repr(self) -> str:
        """Describe the layer as ``nn.Linear`` does."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _pack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    return packed


def _product(states: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(states, packed, bias, "none", [], "")
    return out


def pack_linears(model: nn.Module, *, head: bool = False) -> int:
    """Replace with packed layers the linear layers of a model that is only asked.

    Weights in their plain order are given up, unless something else holds them (a tied
    embedding).

    Args:
        model: with its adapter folded in already, if it gets one.
        head: also the LM head: for decoding.

    Returns:
        How many layers were replaced; 0 where packing is not possible here.
    """
    found = [
        (p, name, layer) for p, name, layer in plain_linears(model, head=head) if _can_pack(layer)
    ]
    if not found or not _exact(found[0][2]):
        return 0
    for parent, name, layer in found:
        setattr(parent, name, PackedLinear(layer))
    return len(found)


def plain_linears(model: nn.Module, *, head: bool) -> list[tuple[nn.Module, str, nn.Linear]]:
    """List the linear layers of a model by their owner and name there; the LM head if asked."""
    kept = None if head else getattr(model, "get_output_embeddings", lambda: None)()
    return [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear and layer is not kept
    ]


def available() -> bool:
    """Check that this torch can pack weights."""
    built = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    return built and all(hasattr(torch.ops.mkldnn, name) for name in operators)


def _can_pack(layer: nn.Linear) -> bool:
    """Return whether a layer is one to pack."""
    return layer.weight.device.type == "cpu" and layer.weight.dtype in _TOLERANCE and available()


def _exact(layer: nn.Linear) -> bool:
    """Check that a packed layer computes what the layer itself computes."""
    dtype = layer.weight.dtype
    states = torch.linspace(-1, 1, 3 * layer.in_features, dtype=dtype).reshape(1, 3, -1)
    with torch.inference_mode():
        try:
            packed = PackedLinear(layer)(states)
        except (RuntimeError, TypeError, AttributeError):  # torch's own operators may change
            return False
        plain = layer(states)
        close = _TOLERANCE[dtype]
        return bool(torch.allclose(packed, plain, atol=close, rtol=close))
