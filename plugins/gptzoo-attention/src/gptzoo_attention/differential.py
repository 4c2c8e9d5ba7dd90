"""Differential attention, `"attention": "differential"`: the difference of two attention maps, which cancels noise.

Ye et al. 2024, Differential Transformer, arXiv:2410.05258.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo
from gptzoo_attention.dense import attention_weights, sdpa_mask, weighted_sum

_LAMBDA_PARAMETERS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


class DifferentialAttention(gptzoo.MultiHeadAttention):
    """Differential attention: the weights of a head are softmax(q1 k1) - lambda * softmax(q2 k2), with learned lambda.

    A head of width D has two queries and two keys of width D/2 and one value of width D. So it has as many parameters
    as plain attention with the same n_heads and n_kv_heads. The paper uses half as many heads as its baseline.
    """

    name = "differential"
    paper = "Ye et al. 2024, Differential Transformer, arXiv:2410.05258"

    class Config(gptzoo.MultiHeadAttention.Config):
        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            if init_std := model["architecture"].get("init_std"):
                yield gptzoo.Recommended(
                    "model.architecture.embed_scale",
                    "the norm of each head makes the output of attention large beside embeddings of std 0.02; "
                    "0.1 is the best of the stds measured in docs/results.md",
                    value=float(f"{0.1 / init_std:.4g}"),
                )

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if dims.d_head % 4:
                yield (
                    "",
                    "splits each head into two halves, whose channels may be rotated in pairs, so the width of a head "
                    f"must be divisible by 4, got {dims.d_head}",
                )

        def default_scale(self, dims: gptzoo.Dims) -> float:
            return (dims.d_head // 2) ** -0.5  # the width of one of the two queries of a head

    config: Config
    lambda_q1: Tensor
    lambda_k1: Tensor
    lambda_q2: Tensor
    lambda_k2: Tensor
    lambda_init: Tensor

    def __init__(self, config: Config, dims: gptzoo.Dims):
        # Outside of `attend`, the two maps of a head are two heads of half the width: all first maps, then all second.
        super().__init__(
            config.model_copy(update={"n_kv_heads": 2 * config.n_kv_heads}),
            replace(dims, n_heads=2 * dims.n_heads, head_width=dims.d_head // 2),
        )
        self.config, self.dims = config, dims
        for name in _LAMBDA_PARAMETERS:
            self.register_parameter(name, nn.Parameter(torch.empty(self.d_head)))
        # lambda_init follows from the layer, so it is not saved in checkpoints. It is a buffer, because a Python number
        # would be compiled into the graph, which then could not be shared by layers.
        self.register_buffer("lambda_init", torch.empty(1), persistent=False)
        self.head_norm = nn.RMSNorm(dims.d_head, eps=1e-5)

    def fans(self) -> Mapping[str, gptzoo.Fans]:
        # lambda has scalar products of these vectors, which sum over the channels of a head.
        return {name: gptzoo.Fans(inputs=(0,)) for name in ("lambda_k1", "lambda_k2")}

    def initialise(self, rng: gptzoo.Rng) -> None:
        for name in _LAMBDA_PARAMETERS:
            nn.init.normal_(getattr(self, name), std=0.1, generator=rng(name))
        # The paper has exp(-0.3 (l - 1)) with layers counted from l = 1.
        self.lambda_init.fill_(0.8 - 0.6 * math.exp(-0.3 * (self.dims.layer or 0)))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        # q holds the first queries of all heads (B, H, T, D/2), then the second ones. k holds (B, 2G, S, D/2) likewise.
        # v holds the left halves of the values of all heads, then the right halves.
        lambda_, weights = self.compute_lambda(), None
        dropout = self.config.dropout if self.training else 0.0
        if "attention" in context.capture or dropout:
            first_map, second_map = self._maps(q, k, context, k_pos)
            weights = first_map - lambda_ * second_map
            value = torch.cat(v.chunk(2, dim=1), dim=-1)  # (B, G, S, D)
            first = weighted_sum(F.dropout(first_map, dropout), value)
            second = weighted_sum(F.dropout(second_map, dropout), value)
        else:
            first, second = self._fused(q, k, v, context, k_pos)
        y = self.head_norm(first - lambda_ * second) * (1 - self.lambda_init)  # (B, H, T, D)
        return y, weights if "attention" in context.capture else None

    def tensor_parallel(self, n: int) -> gptzoo.TensorPlan | None:
        """Give each shard some of the heads, each with both of its maps."""
        if self.dims.n_heads % n or self.config.n_kv_heads % n:
            raise gptzoo.InputError(
                f"{self.dims.n_heads} query heads and {self.config.n_kv_heads} key/value heads cannot be split evenly "
                f"over {n} processes"
            )
        halves = tuple(width // 2 for width in self.widths for _ in range(2))  # first and second maps of q, k and v
        per_shard = dict.fromkeys((*_LAMBDA_PARAMETERS, "head_norm"), gptzoo.Replicated(partial=True))
        return {
            **(super().tensor_parallel(n) or {}),
            "qkv": gptzoo.ColumnParallel(halves),
            **per_shard,
            "lambda_init": gptzoo.Replicated(),
        }

    def compute_lambda(self) -> Tensor:
        """Return lambda, (1,): exp(q1 · k1) - exp(q2 · k2) + lambda_init."""
        first = (self.lambda_q1 * self.lambda_k1).sum().exp()
        second = (self.lambda_q2 * self.lambda_k2).sum().exp()
        return first - second + self.lambda_init

    def _maps(self, q: Tensor, k: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor) -> list[Tensor]:
        """Return the first and the second attention map, (B, H, T, S) each."""
        mask, bias = context.attention_mask(k_pos, self.window), context.bias(k_pos)
        halves = zip(q.chunk(2, dim=1), k.chunk(2, dim=1), strict=True)
        return [attention_weights(q, k, mask=mask, bias=bias) for q, k in halves]

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, ...]:
        """Apply the first and the second map to the values with torch's fused kernels: (B, H, T, D) each.

        The fastest kernels require values as wide as keys. So each half of the values is a call of its own. That
        computes the scores twice, but is faster and takes less memory than a kernel for the full values.
        """
        bias = context.bias(k_pos)
        # The fastest kernels take no mask. That is exact if nothing but later tokens has to be masked.
        unmasked = context.trivially_causal and bias is None and (self.window is None or q.shape[2] <= self.window)
        attn_mask: Tensor | None = None
        if not unmasked:
            bias = None if bias is None else bias.repeat(1, 2, 1, 1)  # both maps of a head have the bias of the head
            attn_mask = sdpa_mask(context.attention_mask(k_pos, self.window), bias, q.dtype)
        halves = [
            gptzoo.fused_attention(
                q,
                k,
                half.repeat(1, 2, 1, 1),  # (B, 2G, S, D/2)
                mask=attn_mask,
                is_causal=unmasked and context.causal,
                enable_gqa=self.n_kv_heads != self.n_heads,
            )
            for half in v.chunk(2, dim=1)
        ]
        return torch.cat(halves, dim=-1).chunk(2, dim=1)
