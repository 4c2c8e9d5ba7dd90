"""Weights as inference wants them: in bfloat16 or int8, and laid out beforehand for the products of this machine."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.head import Head
from gptzoo.sampling.weights.onednn_linear import packed_product

Weights = Literal["fp32", "bf16", "int8"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}  # of everything but the products
_ROWS = 16  # that the layout is made for; measured from 1 to 512 it is as good as one of their own for each
_LARGE = 2**18  # weights; to hand fewer in float32 to oneDNN takes longer than its layout saves
_FEW = 64  # rows; with more, int8 weights are cheaper spelled out once than multiplied as they are


def prepare_for_inference(
    model: Architecture, weights: Weights = "fp32", *, one_row: bool = False, compile: bool = False
) -> Architecture:
    """Put a model in eval mode with its weights packed for inference, in place; the model itself.

    Each `nn.Linear` of any component, and the head, becomes a layer that holds its weights in another form: "fp32" and
    "bf16" in the blocked layout of oneDNN where that is quicker (else as they are), "int8" with a scale for
    each output, in products with bfloat16 (Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339, without its outliers).
    What is no such layer is in float32 or bfloat16. The model can be sampled from, and no longer be trained or saved.

    one_row: texts will be written one at a time. Weights in float32 then stay as they are on processors that multiply
    one row by them faster so.
    compile: have the step that adds a token compiled when it is first taken. That takes from seconds to a minute.

    Raises InputError for weights that are prepared already or of an unknown form.
    """
    if weights not in _DTYPES:
        raise InputError(f"no weights of the form {weights!r}; known: {', '.join(_DTYPES)}")
    if any(isinstance(module, PackedLinear | QuantisedLinear) for module in model.modules()):
        raise InputError("the weights of this model are prepared for inference already; load it again")
    model.eval().to(_DTYPES[weights]).requires_grad_(False)

    def layer(weight: Tensor, bias: Tensor | None) -> nn.Module:
        if weights == "int8":
            return QuantisedLinear(weight, bias)
        return PackedLinear(weight, bias, blocked=_is_quicker_blocked(weight, one_row))

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, layer(child.weight.detach(), child.bias))
    head, embed = getattr(model, "head", None), getattr(model, "embed", None)
    if isinstance(head, Head) and isinstance(embed, nn.Embedding):
        head.packed = layer((embed.weight if head.weight is None else head.weight).detach(), head.bias)
        head.weight = None
    if compile:
        from gptzoo.sampling.compile.decode_step import compile_decoding

        compile_decoding(model)
    return model


class _Frozen(nn.Module):
    """(…, K) -> (…, N). Its weights have another form; a component that reads `weight` is shown the usual one."""

    def __init__(self, bias: Tensor | None):
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._spelled_out: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """(N, K), kept from the first time that it is asked for."""
        if self._spelled_out is None:
            self._spelled_out = self.spell_out()
        return self._spelled_out

    def spell_out(self) -> Tensor:
        raise NotImplementedError


class PackedLinear(_Frozen):
    """A linear layer whose weights are in the layout that oneDNN multiplies fastest."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, blocked: bool):
        super().__init__(bias)
        self.blocked = blocked
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS) if blocked else weight
        self.register_buffer("packed", packed, persistent=False)  # compiled code knows the sizes of buffers

    packed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.blocked:
            return F.linear(x, self.packed, self.bias)
        return packed_product(x, self.packed, self.bias)

    def spell_out(self) -> Tensor:
        return self.packed.to_dense() if self.blocked else self.packed

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Beside the bias: what is told apart by its weights must not lose them here."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.spell_out()


def _is_quicker_blocked(weight: Tensor, one_row: bool) -> bool:
    """Whether oneDNN is there for the device, knows the dtype on this processor, and is the quicker one."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.float32:
        return weight.numel() >= _LARGE and not (one_row and _mkl_is_fast_here())
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _mkl_is_fast_here() -> bool:
    """Whether MKL multiplies as fast as it can, which it does on the processors of its maker alone."""
    return torch.backends.mkl.is_available() and "Intel" in str(torch.cpu.get_capabilities().get("cpu_name"))


class QuantisedLinear(_Frozen):
    """A linear layer with weights in int8, symmetric around 0, and one scale for each output."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(bias)
        exact = weight.float()
        scale = (exact.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        self.register_buffer("quantised", (exact / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale.to(weight.dtype))

    quantised: Tensor  # (N, K)
    scale: Tensor  # (N,)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if rows.shape[0] >= _FEW or x.device.type != "cpu":
            return F.linear(x, self.spell_out(), self.bias)
        y = torch._weight_int8pack_mm(rows, self.quantised, self.scale).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias

    def spell_out(self) -> Tensor:
        return self.quantised.to(self.scale.dtype) * self.scale[:, None]
