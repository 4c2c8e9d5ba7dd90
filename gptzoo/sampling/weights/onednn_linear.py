"""The product with weights that oneDNN has laid out, as an operator that compiled code can call.

torch's own compiler knows that product for weights that are constants of a graph, and then each block would need a
graph of its own. This operator takes them as an argument.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("gptzoo", "FRAGMENT")
_LIBRARY.define("packed_product(Tensor x, Tensor packed, Tensor? bias) -> Tensor")


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """(…, K) by weights (N, K) from `mkldnn._reorder_linear_weight` -> (…, N)."""
    if torch.compiler.is_compiling():
        y: Tensor = torch.ops.gptzoo.packed_product(x, packed, bias)
        return y
    return _by_onednn(x, packed, bias)


def _by_onednn(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


def _shape_only(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], packed.shape[0])


for _key in ("CPU", "MkldnnCPU"):
    _LIBRARY.impl("packed_product", _by_onednn, _key)
torch.library.register_fake("gptzoo::packed_product", _shape_only, lib=_LIBRARY)


def teach_inductor() -> None:
    """Have compiled code call oneDNN itself, without a detour through Python."""
    from torch._inductor.ir import FixedLayout, TensorBox
    from torch._inductor.lowering import lowerings, register_lowering
    from torch._inductor.mkldnn_ir import LinearUnary

    operator = torch.ops.gptzoo.packed_product.default
    if operator in lowerings:
        return

    def lower(x: Any, packed: Any, bias: Any) -> Any:
        *rows, _ = x.get_size()
        inputs = [LinearUnary.require_contiguous(LinearUnary.realize_input(x)), LinearUnary.realize_input(packed)]
        arguments: list[Any] = ["none", [-1], ""]  # no function of the outputs
        if bias is None:
            arguments.insert(0, None)
        else:
            inputs.append(LinearUnary.realize_input(bias))
        layout = FixedLayout(x.get_device(), x.get_dtype(), [*rows, packed.get_size()[0]])
        return TensorBox.create(LinearUnary(layout, inputs, arguments))

    register_lowering(operator, type_promotion_kind=None)(lower)
