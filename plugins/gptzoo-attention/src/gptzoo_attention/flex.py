"""`"attention": "flex"`: torch's FlexAttention.

Dong et al. 2024, Flex Attention: A Programming Model for Generating Optimized Attention Kernels, arXiv:2412.05496.
Masks and biases are functions that are compiled into the kernel, so that blocks which a mask hides are skipped, and
neither the scores nor their mask is ever in memory.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

import gptzoo
from gptzoo_attention.dense import attention_weights, weighted_sum


class FlexAttention(gptzoo.MultiHeadAttention):
    """Multi-head attention by torch's FlexAttention: windows and documents cost only what they show.

    It has the weights of `naive` and `sdpa`. Its kernels need CUDA; elsewhere, for a single query, and where the
    weights are captured, the same scores are spelled out.
    """

    name = "flex"
    paper = "Dong et al. 2024, Flex Attention, arXiv:2412.05496"

    class Config(gptzoo.MultiHeadAttention.Config):
        softcap: PositiveFloat | None = None
        """Scores become softcap * tanh(score / softcap) before biases are added (Gemma 2, arXiv:2408.00118: 50)."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if self.dropout:
                yield (
                    "dropout",
                    "FlexAttention cannot drop attention weights: set attention.dropout to 0 (out_dropout and the "
                    "model's own dropout may stay), or take attention 'sdpa'",
                )

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        bias = context.bias(k_pos)
        capture = "attention" in context.capture
        if not capture and q.shape[2] > 1:  # a single query has no blocks to skip
            if has_kernel(q, bias):
                return flex(q, k, v, context, k_pos, bias=bias, window=self.window, softcap=self.config.softcap), None
            if self.training and not q.is_meta and not torch.compiler.is_compiling():
                _say_that_scores_are_spelled_out()
        visible = context.attention_mask(k_pos, self.window)
        weights = attention_weights(q, k, visible=visible, bias=bias, softcap=self.config.softcap)
        return weighted_sum(weights, v), weights if capture else None


def has_kernel(q: Tensor, bias: Tensor | None) -> bool:
    """FlexAttention compiles for CUDA, heads of at least 16, at most float32 and biases that are not learned.

    On a CPU it has no backward pass; uncompiled it is slower than the scores spelled out, compiled it needs a compiler
    of C++ where nothing else here does. The gradient of a bias is summed in an order that changes from run to run.
    """
    return (
        q.is_cuda and q.shape[-1] >= 16 and q.dtype != torch.float64 and not (bias is not None and bias.requires_grad)
    )


@functools.cache
def _say_that_scores_are_spelled_out() -> None:
    warnings.warn(
        "attention 'flex' trains without FlexAttention here, which needs CUDA, heads of at least 16, at most float32 "
        "and no learned score bias: results are the same, but all T x T scores are computed and kept",
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
) -> Tensor:
    """Queries (B, H, T, D), keys and values (B, G, S, D) -> (B, H, T, D)."""
    from torch.nn.attention.flex_attention import flex_attention  # takes a while to import

    return _compiled(flex_attention)(
        q.to(v.dtype),
        k.to(v.dtype),
        v,
        score_mod=_score_mod(bias, softcap),
        block_mask=_block_mask(context, k_pos, window),
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _score_mod(bias: Tensor | None, softcap: float | None) -> Callable[..., Tensor] | None:
    if bias is None and softcap is None:
        return None
    bias_at = None if bias is None else _reader(bias)

    def score_mod(score: Tensor, b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        return score if bias_at is None else score + bias_at(b, h, t, s)

    return score_mod


# The block masks of the forward passes under way, by step and window: layers share them, and they go with their step.
_masks: Any = WeakIdKeyDictionary()


def _block_mask(context: gptzoo.ForwardContext, k_pos: Tensor, window: int | None) -> Any:
    """The BlockMask of `context.attention_mask(k_pos, window)`."""
    # Each layer has a cache of its own, whose positions change in place. A compiler sees a part of the step only.
    if k_pos is not context.positions or torch.compiler.is_compiling():
        return _new_block_mask(context, k_pos, window)
    known = _masks.setdefault(context, {})
    if window not in known:
        known[window] = _new_block_mask(context, k_pos, window)
    return known[window]


def _new_block_mask(context: gptzoo.ForwardContext, k_pos: Tensor, window: int | None) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    per_token = (
        [context.positions, k_pos] if context.documents is None else [context.positions, k_pos, context.documents]
    )
    n_rows = max(tensor.shape[0] for tensor in per_token)
    return _compiled(create_block_mask)(
        mask_mod(context, k_pos, window), n_rows, None, context.positions.shape[1], k_pos.shape[1], device=k_pos.device
    )


def mask_mod(context: gptzoo.ForwardContext, k_pos: Tensor, window: int | None) -> Callable[..., Tensor]:
    """`context.attention_mask(k_pos, window)` by single entries, as FlexAttention asks for it. It must not hold the step."""
    causal, q_at, k_at = context.causal, _reader(context.positions), _reader(k_pos)
    document_at = None if context.documents is None else _reader(context.documents)

    def visible(b: Tensor, h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        q, k = q_at(b, t), k_at(b, s)
        mask = k >= 0
        if causal:
            mask = mask & (k <= q)
        if window is not None:
            mask = mask & ((q - k).abs() < window)
        if document_at is not None:
            mask = mask & (document_at(b, t) == document_at(b, s))
        return mask | (q < 0)

    return visible


def _reader(table: Tensor) -> Callable[..., Tensor]:
    """(b, *index) -> the entry of a (B|1, …) table, whose one row may serve the whole batch."""
    if table.shape[0] > 1:
        return lambda *index: table[index]
    row = table[0]
    return lambda b, *index: row[index]


def _compiled(function: Any) -> Any:
    """The function compiled; inside of what is being compiled already, itself."""
    return function if torch.compiler.is_compiling() else _compile(function)


@functools.cache
def _compile(function: Any) -> Any:
    return torch.compile(function)
