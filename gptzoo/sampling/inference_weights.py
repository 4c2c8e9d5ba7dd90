"""Conversion of a model's weights for inference: float32, bfloat16 or int8, packed for this machine."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.head import Head
from gptzoo.sampling.compile.decode_step import compile_decoding
from gptzoo.sampling.compile.onednn_linear import packed_product

WeightFormat = Literal["fp32", "bf16", "int8"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}  # of all other tensors
_PACKED_FOR_ROWS = 16  # batch size that the layout is made for; from 1 to 512 rows, layouts of their own are no faster
_MIN_PACKED_WEIGHTS = 2**18  # for smaller float32 matrices, calling oneDNN takes longer than its layout saves
_MIN_DEQUANTISED_ROWS = 64  # from here on, it is cheaper to dequantise int8 weights once than to multiply by them


def prepare_for_inference(
    model: Architecture, weights: WeightFormat = "fp32", *, one_row: bool = False, compile: bool = False
) -> Architecture:
    """Convert the weights of a model for inference, in place, and return the model in eval mode.

    Each `nn.Linear` of any component, and the head, is replaced by a layer with converted weights. "fp32" and "bf16"
    use oneDNN's blocked layout where that is faster. "int8" has a scale per output and multiplies by bfloat16
    activations (Dettmers et al. 2022, LLM.int8(), arXiv:2208.07339, without its outliers). All other tensors become
    float32 or bfloat16. Afterwards the model can generate text, but it can no longer be trained or saved.

    one_row: optimise for a batch size of 1. On processors where one row is faster with plain float32 weights, they stay
    as they are.
    compile: compile the decode step when it first runs, which takes from seconds to a minute.

    Raises InputError for an unknown weight format, or if the model is prepared already.
    """
    if weights not in _DTYPES:
        raise InputError(f"unknown weight format {weights!r}. Choose one of: {', '.join(_DTYPES)}.")
    if any(isinstance(module, PackedLinear | QuantisedLinear) for module in model.modules()):
        raise InputError("the weights of this model are prepared for inference already. Load the model again.")
    model.eval().to(_DTYPES[weights]).requires_grad_(False)

    def convert(weight: Tensor, bias: Tensor | None) -> nn.Module:
        if weights == "int8":
            return QuantisedLinear(weight, bias)
        return PackedLinear(weight, bias, blocked=_is_faster_blocked(weight, one_row))

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, convert(child.weight.detach(), child.bias))
    head, embed = getattr(model, "head", None), getattr(model, "embed", None)
    if isinstance(head, Head) and isinstance(embed, nn.Embedding):
        head.packed = convert((embed.weight if head.weight is None else head.weight).detach(), head.bias)
        head.weight = None
    if compile:
        compile_decoding(model)
    return model


class InferenceLinear(nn.Module):
    """Base class of linear layers, (…, K) -> (…, N), whose weights are stored in another form.

    `weight` is the plain matrix, for components that read it.
    """

    def __init__(self, bias: Tensor | None):
        super().__init__()
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._plain_weight: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The weights (N, K) as a plain matrix, kept after the first access."""
        if self._plain_weight is None:
            self._plain_weight = self.unpack()
        return self._plain_weight

    def unpack(self) -> Tensor:
        """Return the weights (N, K) as a plain matrix."""
        raise NotImplementedError


class PackedLinear(InferenceLinear):
    """A linear layer whose weights are in oneDNN's blocked layout, if `blocked`."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, blocked: bool):
        super().__init__(bias)
        self.blocked = blocked
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, _PACKED_FOR_ROWS) if blocked else weight
        self.register_buffer("packed", packed, persistent=False)  # a buffer, so that compiled code knows its size

    packed: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not self.blocked:
            return F.linear(x, self.packed, self.bias)
        return packed_product(x, self.packed, self.bias)

    def unpack(self) -> Tensor:
        return self.packed.to_dense() if self.blocked else self.packed

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Add the plain weights, so that the state dict still identifies the model."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.unpack()


def _is_faster_blocked(weight: Tensor, one_row: bool) -> bool:
    """Return True if oneDNN supports the device and dtype, and its layout is faster."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.float32:
        return weight.numel() >= _MIN_PACKED_WEIGHTS and not (one_row and _has_fast_mkl())
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _has_fast_mkl() -> bool:
    """Return True on Intel processors with MKL, which is slower on processors of other makers."""
    return torch.backends.mkl.is_available() and "Intel" in str(torch.cpu.get_capabilities().get("cpu_name"))


class QuantisedLinear(InferenceLinear):
    """A linear layer with int8 weights, symmetric around 0, and one scale per output."""

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
        if rows.shape[0] >= _MIN_DEQUANTISED_ROWS or x.device.type != "cpu":
            return F.linear(x, self.unpack(), self.bias)
        y = torch._weight_int8pack_mm(rows, self.quantised, self.scale).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias

    def unpack(self) -> Tensor:
        return self.quantised.to(self.scale.dtype) * self.scale[:, None]
