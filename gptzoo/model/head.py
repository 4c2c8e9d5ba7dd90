"""The output head: maps the residual stream to logits, or directly to the loss."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.utils.targets import IGNORED_TARGET

_MAX_CHUNK_LOGITS = 2**24  # 64 MiB in float32; for more logits, the loss is computed in chunks of positions
_GPU_MEMORY_FRACTION = 32  # on a GPU, the float32 logits of a chunk may take this part of the memory, if that is more


class Head(nn.Module):
    """A linear layer (B, T, C) -> (B, T, V), then a scale and a soft cap.

    A tied head has no weight: `forward` receives the embedding's.
    """

    scale = 1.0
    """Factor on the logits."""
    softcap: float | None = None
    """Soft cap of the logits: they become cap * tanh(logit / cap)."""
    label_smoothing = 0.0
    """In training, the share of each target that is spread evenly over the vocabulary (Szegedy et al. 2016,
    arXiv:1512.00567)."""
    z_loss = 0.0
    """In training, the weight of the squared log-normaliser, which keeps logits from drifting (Chowdhery et al. 2022,
    PaLM, arXiv:2204.02311)."""

    def __init__(self, d_model: int, vocab_size: int, *, tied: bool, bias: bool):
        super().__init__()
        self.weight = None if tied else nn.Parameter(torch.empty(vocab_size, d_model))
        self.bias = nn.Parameter(torch.empty(vocab_size)) if bias else None
        self.packed: nn.Module | None = None  # for inference: computes the same product from weights in another layout

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self._logits(x, embedding if self.weight is None else self.weight, self.bias)

    def _logits(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        logits: Tensor = F.linear(x, weight, bias) if self.packed is None else self.packed(x)
        if self.scale != 1:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def loss(self, x: Tensor, embedding: Tensor, targets: Tensor, auxiliary: AuxiliaryOutputs) -> Tensor:
        """Return the mean cross-entropy in nats over the targets (B, T) other than IGNORED_TARGET, in at least float32.

        In training, the terms of label smoothing and z-loss are added to `auxiliary.losses`. The cross-entropy itself
        stays comparable between runs with and without them. If `auxiliary` wants predictions, the likeliest token at
        each position becomes its capture `predictions`, int64 (B, T).
        """
        rows, flat = x.flatten(0, 1), targets.flatten()
        weight = embedding if self.weight is None else self.weight
        chunk_size = max(1, _max_chunk_logits(x.device) // embedding.shape[0])
        predictions = torch.empty_like(flat) if auxiliary.wants_predictions else None
        sums: Tensor
        if len(rows) <= chunk_size:
            sums = self._loss_sums(rows, weight, self.bias, flat, predictions)
        else:
            arguments = self, chunk_size, flat, predictions, rows, weight, self.bias
            sums = _ChunkedLossSums.apply(*arguments)  # type: ignore[no-untyped-call]
        if predictions is not None:
            auxiliary.captures["predictions"] = predictions.view_as(targets)
        cross_entropy, *terms = (sums / (flat != IGNORED_TARGET).sum().clamp(min=1)).unbind()
        if terms:
            uniform, squares = terms
            if self.label_smoothing:
                auxiliary.losses["label_smoothing"] = self.label_smoothing * (uniform - cross_entropy)
            if self.z_loss:
                auxiliary.losses["z_loss"] = self.z_loss * squares
        return cross_entropy

    def _loss_sums(
        self, rows: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, predictions: Tensor | None = None
    ) -> Tensor:
        """Return sums over the targets that count: the cross-entropy (1,), or three sums (3,) in regularised training.

        The others are the cross-entropy with uniform targets, and the squared log-normaliser. `predictions`, if given,
        receive the likeliest tokens.
        """
        logits = self._logits(rows, weight, bias)
        if predictions is not None:
            predictions.copy_(logits.argmax(-1))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        cross_entropy = F.cross_entropy(logits, targets, ignore_index=IGNORED_TARGET, reduction="sum")
        if not (self.training and (self.label_smoothing or self.z_loss)):
            return cross_entropy[None]
        counts = targets != IGNORED_TARGET
        normaliser = logits.logsumexp(-1)
        uniform = normaliser - logits.mean(-1)
        return torch.stack([cross_entropy, (uniform * counts).sum(), (normaliser.square() * counts).sum()])


class _Context(FunctionCtx):
    """The values that the backward pass of `_ChunkedLossSums` needs."""

    head: Head
    chunk_size: int
    autocast_dtype: torch.dtype | None  # None: autocast is off
    saved_tensors: tuple[Tensor, Tensor, Tensor, Tensor | None]  # targets, rows, weight and bias
    needs_input_grad: tuple[bool, ...]


class _ChunkedLossSums(torch.autograd.Function):
    """`Head._loss_sums` of all rows, chunk by chunk. The backward pass computes the logits of each chunk again.

    So the logits of only one chunk are ever in memory. The gradients of the chunks are summed in float32 or wider.
    Autograd would sum them in the dtype of autocast, and round after each chunk.
    """

    @staticmethod
    def forward(
        ctx: _Context,
        head: Head,
        chunk_size: int,
        targets: Tensor,
        predictions: Tensor | None,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        ctx.head, ctx.chunk_size = head, chunk_size
        ctx.save_for_backward(targets, rows, weight, bias)  # type: ignore[arg-type]  # it may be None
        device_type = rows.device.type
        is_autocast = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
        ctx.autocast_dtype = torch.get_autocast_dtype(device_type) if is_autocast else None
        cast, bias = _autocast_weight(weight, ctx.autocast_dtype), None if bias is None else bias.detach()
        parts = itertools.repeat(None) if predictions is None else torch.split(predictions, chunk_size)
        chunks = zip(_chunks(chunk_size, rows, targets), parts, strict=False)
        sums = [head._loss_sums(r, cast, bias, t, p) for (r, t), p in chunks]
        return torch.stack(sums).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        targets, rows, weight, bias = ctx.saved_tensors
        needed = dict(zip(("rows", "weight", "bias"), ctx.needs_input_grad[4:], strict=True))
        inputs = {"weight": _autocast_weight(weight, ctx.autocast_dtype).detach().requires_grad_(needed["weight"])}
        if bias is not None:
            inputs["bias"] = bias.detach().requires_grad_(needed["bias"])
        row_gradients: list[Tensor] = []
        totals: dict[str, Tensor] = {}
        with (
            torch.enable_grad(),
            contextlib.nullcontext()
            if ctx.autocast_dtype is None
            else torch.autocast(rows.device.type, ctx.autocast_dtype, cache_enabled=False),
        ):
            for r, t in _chunks(ctx.chunk_size, rows, targets):
                inputs["rows"] = r.detach().requires_grad_(needed["rows"])
                sums = ctx.head._loss_sums(inputs["rows"], inputs["weight"], inputs.get("bias"), t)
                names = [name for name, is_needed in needed.items() if is_needed]
                gradients = torch.autograd.grad(sums, [inputs[name] for name in names], gradient)
                for name, part in zip(names, gradients, strict=True):
                    if name == "rows":
                        row_gradients.append(part)
                    elif name in totals:
                        totals[name] += part
                    else:
                        totals[name] = part.to(torch.promote_types(part.dtype, torch.float32))
        weight_gradient = totals["weight"].to(weight.dtype) if "weight" in totals else None
        bias_gradient = totals["bias"].to(bias.dtype) if bias is not None and "bias" in totals else None
        row_gradient = torch.cat(row_gradients) if row_gradients else None
        return None, None, None, None, row_gradient, weight_gradient, bias_gradient


def _chunks(size: int, rows: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(rows, size), torch.split(targets, size), strict=True)


def _autocast_weight(weight: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Cast a weight as autocast to `dtype` would, but once for all chunks. None: autocast is off."""
    return weight if dtype is None or weight.dtype != torch.float32 else weight.to(dtype)


def _max_chunk_logits(device: torch.device) -> int:
    """Return the number of logits of a chunk. It depends on the kind of device only, so a run can be repeated."""
    if device.type != "cuda":
        return _MAX_CHUNK_LOGITS
    n_bytes = torch.cuda.get_device_properties(device).total_memory // _GPU_MEMORY_FRACTION
    return max(_MAX_CHUNK_LOGITS, n_bytes // 4)
