"""FlexAttention, `"attention": "flex"`.

Dong et al. 2024, Flex Attention: A Programming Model for Generating Optimized Attention Kernels, arXiv:2412.05496.
Masks and biases are functions that are compiled into the kernel. So blocks that are masked entirely are skipped, and
neither the scores nor the mask are stored in memory.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

import gptzoo
from gptzoo_attention.dense import attention_weights, weighted_sum

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask  # slow to import


class FlexAttention(gptzoo.SdpaAttention):
    """Multi-head attention with torch's `flex_attention`, which skips blocks masked by a window or by packed documents.

    Dense multi-head attention: scores, mask, softmax, weighted sum. It takes the place of the CUDA kernels on other
    devices, for a single query and for captured weights, with the same result. The parameters are those of `naive` and
    `sdpa`.
    """

    name = "flex"
    paper = "Dong et al. 2024, Flex Attention, arXiv:2412.05496"

    class Config(gptzoo.SdpaAttention.Config):
        softcap: float | None = Field(default=None, ge=1e-3, le=1e6)
        """Soft cap: scores become softcap * tanh(score / softcap) before biases are added (50 in Gemma 2,
        arXiv:2408.00118). Below 0.001 all scores are equal, and queries and keys are not trained. Null: no cap."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if self.dropout:
                yield (
                    "dropout",
                    "FlexAttention does not support dropout of attention weights; set attention.dropout to 0 "
                    "(out_dropout and the model's dropout are not affected), or use attention 'sdpa'",
                )

        def canonical(self, dims: gptzoo.Dims) -> gptzoo.MultiHeadAttention.Config:
            config = super().canonical(dims)
            options = {name: getattr(config, name) for name in type(config).model_fields if name != "type"}
            return gptzoo.SdpaAttention.Config.model_construct(**options)

    config: Config

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        bias = context.bias(k_pos)
        capture = "attention" in context.capture
        if not capture and q.shape[2] > 1:  # a single query has no blocks to skip
            if has_kernel(q, bias):
                options = {"window": self.window, "softcap": self.config.softcap, "sinks": self.sinks}
                return flex(q, k, v, context, k_pos, bias=bias, **options), None
            if self.training and not q.is_meta and not torch.compiler.is_compiling():
                _warn_about_dense_attention()
        mask = context.attention_mask(k_pos, self.window)
        weights = attention_weights(q, k, mask=mask, bias=bias, softcap=self.config.softcap, sinks=self.sinks)
        return weighted_sum(weights, v), weights if capture else None


def has_kernel(q: Tensor, bias: Tensor | None) -> bool:
    """Return True if FlexAttention's compiled kernel is used: CUDA, head width >= 16, float32 or narrower, fixed bias.

    On a CPU, FlexAttention has no backward pass, is slower than dense attention if it is not compiled, and needs a C++
    compiler if it is. It sums the gradient of a learned bias in an order that varies from run to run.
    """
    return (
        q.is_cuda and q.shape[-1] >= 16 and q.dtype != torch.float64 and not (bias is not None and bias.requires_grad)
    )


@functools.cache
def _warn_about_dense_attention() -> None:
    warnings.warn(
        "attention 'flex' trains with dense attention instead of FlexAttention, which needs CUDA, a head width of at "
        "least 16, a dtype of at most float32 and no learned score bias. Results are the same, but all T x T scores "
        "are computed and stored. On a CPU, use attention 'sdpa'.",
        stacklevel=2,
    )


def flex(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: gptzoo.ForwardContext,
    k_pos: Tensor,
    *,
    bias: Tensor | None,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Run FlexAttention on queries (B, H, T, D), keys and values (B, G, S, D). Return (B, H, T, D).

    A sink adds exp(sink) to the sum over keys that a softmax divides by, whose logarithm the kernel returns.
    """
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention  # a slow import

    y = _compiled(flex_attention)(
        q.to(v.dtype),
        k.to(v.dtype),
        v,
        score_mod=_score_mod(bias, softcap),
        block_mask=_block_mask(context, k_pos, window),
        enable_gqa=q.shape[1] != k.shape[1],
        **({} if sinks is None else {"return_aux": AuxRequest(lse=True)}),
    )
    if sinks is None:
        return y
    y, auxiliary = y
    share = torch.sigmoid(auxiliary.lse - sinks.to(auxiliary.lse.dtype)[:, None])  # (B, H, T)
    return (y * share[..., None]).to(y.dtype)


def _score_mod(bias: Tensor | None, softcap: float | None) -> Callable[..., Tensor] | None:
    """Return the function by which FlexAttention changes each score, or None if there is no bias and no soft cap."""
    if bias is None and softcap is None:
        return None
    bias_at = None if bias is None else _lookup(bias)

    def score_mod(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        return score if bias_at is None else score + bias_at(b, h, t, s)

    return score_mod


# Block masks of the running forward passes, by forward context and window. The layers of a pass share them, and the
# weak keys release them with the context.
_block_masks: MutableMapping[gptzoo.ForwardContext, dict[int | None, BlockMask]] = WeakIdKeyDictionary()


def _block_mask(context: gptzoo.ForwardContext, k_pos: Tensor, window: int | None) -> BlockMask:
    """Return the BlockMask that equals `context.attention_mask(k_pos, window)`."""
    # With a KV cache, each layer has its own key positions, which change in place. The compiler sees a part of the
    # forward pass only. In both cases the mask is not shared.
    if k_pos is not context.positions or torch.compiler.is_compiling():
        return _new_block_mask(context, k_pos, window)
    by_window = _block_masks.setdefault(context, {})
    if window not in by_window:
        by_window[window] = _new_block_mask(context, k_pos, window)
    return by_window[window]


def _new_block_mask(context: gptzoo.ForwardContext, k_pos: Tensor, window: int | None) -> BlockMask:
    from torch.nn.attention.flex_attention import create_block_mask

    per_token = (
        [context.positions, k_pos] if context.documents is None else [context.positions, k_pos, context.documents]
    )
    batch_size = max(tensor.shape[0] for tensor in per_token)
    return _compiled(create_block_mask)(
        mask_mod(context, k_pos, window),
        batch_size,
        None,
        context.positions.shape[1],
        k_pos.shape[1],
        device=k_pos.device,
    )


def mask_mod(context: gptzoo.ForwardContext, k_pos: Tensor, window: int | None) -> Callable[..., Tensor]:
    """Return `context.attention_mask(k_pos, window)` as a function of single entries, as FlexAttention requires.

    The function must not refer to the context, or the cached block masks would keep the context alive.
    """
    causal, q_pos_at, k_pos_at = context.causal, _lookup(context.positions), _lookup(k_pos)
    document_at = None if context.documents is None else _lookup(context.documents)

    def is_unmasked(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        q, k = q_pos_at(b, t), k_pos_at(b, s)
        mask = k >= 0
        if causal:
            mask = mask & (k <= q)
        if window is not None:
            mask = mask & ((q - k).abs() < window)
        if document_at is not None:
            mask = mask & (document_at(b, t) == document_at(b, s))
        return mask | (q < 0)

    return is_unmasked


def _lookup(table: Tensor) -> Callable[..., Tensor]:
    """Return the function from an index (b, …) to the entry of a (B|1, …) table, which may be shared by the batch."""
    if table.shape[0] > 1:
        return lambda *index: table[index]
    shared = table[0]
    return lambda b, *index: shared[index]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the compiled function. While a caller is being compiled, return the function itself."""
    return function if torch.compiler.is_compiling() else _compile(function)


@functools.cache
def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)
