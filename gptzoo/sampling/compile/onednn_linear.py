"""oneDNN's product with packed weights, as an operator that compiled code can call.

torch's compiler knows that product only for weights that are constants of a graph, so every block would need a graph of
its own. This operator takes the weights as an argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch._inductor.ir import TensorBox

_LIBRARY = torch.library.Library("gptzoo", "FRAGMENT")
_LIBRARY.define("packed_product(Tensor x, Tensor packed, Tensor? bias) -> Tensor")


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply x (…, K) by weights (N, K) packed by `mkldnn._reorder_linear_weight`; the result is (…, N)."""
    if torch.compiler.is_compiling():
        y: Tensor = torch.ops.gptzoo.packed_product(x, packed, bias)
        return y
    return _onednn_linear(x, packed, bias)


def _onednn_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


def _fake_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], packed.shape[0])


for _key in ("CPU", "MkldnnCPU"):
    _LIBRARY.impl("packed_product", _onednn_linear, _key)
torch.library.register_fake("gptzoo::packed_product", _fake_linear, lib=_LIBRARY)


def register_inductor_lowering() -> None:
    """Let code compiled by torch's Inductor call oneDNN directly instead of through Python."""
    from torch._inductor.ir import FixedLayout, TensorBox
    from torch._inductor.lowering import lowerings, register_lowering
    from torch._inductor.mkldnn_ir import LinearUnary

    operator = torch.ops.gptzoo.packed_product.default
    if operator in lowerings:
        return

    def lower(x: TensorBox, packed: TensorBox, bias: TensorBox | None) -> TensorBox:
        *batch_sizes, _ = x.get_size()
        inputs = [LinearUnary.require_contiguous(LinearUnary.realize_input(x)), LinearUnary.realize_input(packed)]
        arguments: list[Any] = ["none", [-1], ""]  # no pointwise function of the output
        if bias is None:
            arguments.insert(0, None)
        else:
            inputs.append(LinearUnary.realize_input(bias))
        device = x.get_device()
        assert device is not None
        layout = FixedLayout(device, x.get_dtype(), [*batch_sizes, packed.get_size()[0]])
        return TensorBox.create(LinearUnary(layout, inputs, arguments))

    register_lowering(operator, type_promotion_kind=None)(lower)
