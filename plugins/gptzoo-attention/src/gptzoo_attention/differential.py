"""`"attention": "differential"`: one attention map minus another, so that what both give to noise cancels.

Ye et al. 2024, Differential Transformer, arXiv:2410.05258.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo
from gptzoo_attention.dense import attention_weights, score_mask, weighted_sum

_LAMBDAS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


class DifferentialAttention(gptzoo.MultiHeadAttention):
    """Heads whose weights are softmax(q1 k1) - lambda * softmax(q2 k2), with queries and keys of half the width.

    A head of width D has two queries and two keys of D/2 and one value of D, so n_heads (and n_kv_heads) heads have
    the parameters of as many plain ones. The paper takes half as many heads as the plain model that it compares with.
    """

    name = "differential"
    paper = "Ye et al. 2024, Differential Transformer, arXiv:2410.05258"

    class Config(gptzoo.MultiHeadAttention.Config):
        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if dims.d_head % 4:
                yield (
                    "",
                    "halves each head, and positions may turn pairs of each half, so the head width "
                    f"d_model / n_heads must divide by 4, not be {dims.d_head}",
                )

    lambda_q1: Tensor
    lambda_k1: Tensor
    lambda_q2: Tensor
    lambda_k2: Tensor
    lambda_init: Tensor

    def __init__(self, config: Any, dims: Any):
        # To all but `attend`, the two maps of a head are two heads of half the width: first all of the first maps.
        super().__init__(
            config.model_copy(update={"n_kv_heads": 2 * config.n_kv_heads}), replace(dims, n_heads=2 * dims.n_heads)
        )
        self.config, self.dims = config, dims
        for name in _LAMBDAS:
            self.register_parameter(name, nn.Parameter(torch.empty(self.d_head)))
        # It follows from the layer, so no checkpoint needs to hold it. As a number it would be compiled per layer.
        self.register_buffer("lambda_init", torch.empty(1), persistent=False)
        self.head_norm = nn.RMSNorm(dims.d_head, eps=1e-5)

    def initialise(self, rng: Any) -> None:
        for name in _LAMBDAS:
            nn.init.normal_(getattr(self, name), std=0.1, generator=rng(name))
        self.lambda_init.fill_(0.8 - 0.6 * math.exp(-0.3 * (self.dims.layer or 0)))  # the paper counts layers from 1

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        # All of the first queries (B, H, T, D/2) and then all of the second, keys (B, 2G, S, D/2) likewise; values as
        # the left and then the right halves of all heads.
        weight, weights = self.weight_of_second(), None
        dropout = self.config.dropout if self.training else 0.0
        if "attention" in context.capture or dropout:
            maps = self._maps(q, k, context, k_pos)
            weights = maps[0] - weight * maps[1]
            value = torch.cat(v.chunk(2, dim=1), dim=-1)  # (B, G, S, D)
            first, second = (weighted_sum(F.dropout(map, dropout), value) for map in maps)
        else:
            first, second = self._fused(q, k, v, context, k_pos)
        y = self.head_norm(first - weight * second) * (1 - self.lambda_init)  # (B, H, T, D)
        return y, weights if "attention" in context.capture else None

    def tensor_parallel(self, n: int) -> Any:
        """A share has some of the heads, each with both of its maps."""
        if self.dims.n_heads % n or self.config.n_kv_heads % n:
            raise gptzoo.InputError(
                f"{self.dims.n_heads} query and {self.config.n_kv_heads} key/value heads cannot be shared evenly by "
                f"{n} processes"
            )
        halves = tuple(width // 2 for width in self.widths for _ in range(2))  # of each the first maps, then the second
        own = dict.fromkeys((*_LAMBDAS, "head_norm"), gptzoo.Replicated(partial=True))
        same = {"lambda_init": gptzoo.Replicated()}
        return {**(super().tensor_parallel(n) or {}), "qkv": gptzoo.ColumnParallel(halves), **own, **same}

    def weight_of_second(self) -> Tensor:
        """Lambda, (1,): exp(q1 · k1) - exp(q2 · k2) + lambda_init."""
        first = (self.lambda_q1 * self.lambda_k1).sum().exp()
        second = (self.lambda_q2 * self.lambda_k2).sum().exp()
        return first - second + self.lambda_init

    def _maps(self, q: Tensor, k: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor) -> list[Tensor]:
        """The two maps, (B, H, T, S) each."""
        visible, bias = context.attention_mask(k_pos, self.window), context.bias(k_pos)
        halves = zip(q.chunk(2, dim=1), k.chunk(2, dim=1), strict=True)
        return [attention_weights(q, k, visible=visible, bias=bias) for q, k in halves]

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, ...]:
        """What the two maps make of the values, (B, H, T, D) each.

        torch's fastest kernels want values as wide as keys. Each half of the values by itself computes the scores
        twice, and is faster and smaller than a kernel that takes them whole.
        """
        bias = context.bias(k_pos)
        # Without a mask there are faster kernels too; that is exact when at most the future is to be masked.
        unmasked = context.trivially_causal and bias is None and (self.window is None or q.shape[2] <= self.window)
        mask: Tensor | None = None
        if not unmasked:
            bias = None if bias is None else bias.repeat(1, 2, 1, 1)  # both maps of a head take its own
            mask = score_mask(context.attention_mask(k_pos, self.window), bias, q.dtype)
        halves = [
            F.scaled_dot_product_attention(
                q,
                k,
                half.repeat(1, 2, 1, 1),  # (B, 2G, S, D/2)
                attn_mask=mask,
                is_causal=unmasked and context.causal,
                enable_gqa=self.n_kv_heads != self.n_heads,
            )
            for half in v.chunk(2, dim=1)
        ]
        return torch.cat(halves, dim=-1).chunk(2, dim=1)
