"""`"attention": "block_sparse"`: near blocks and every so-many-th of the far ones.

Child et al. 2019, Generating Long Sequences with Sparse Transformers, arXiv:1904.10509. The first block is among those
that all may see, a global block as in BigBird, Zaheer et al. 2020, arXiv:2007.14062.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

import gptzoo
from gptzoo_attention.dense import attention_weights, score_mask, weighted_sum


class BlockSparseAttention(gptzoo.MultiHeadAttention):
    """A token sees the nearest blocks of `block_size` positions and every `stride`-th block from the first on.

    Plain sequences, as in training, compute scores against those blocks alone. Padded rows, packed documents, cached
    decoding and captured weights go through all scores under the same mask.
    """

    name = "block_sparse"
    paper = "Child et al. 2019, Generating Long Sequences with Sparse Transformers, arXiv:1904.10509"

    class Config(gptzoo.MultiHeadAttention.Config):
        block_size: PositiveInt | None = None
        """Positions in a block; null is a sixteenth of context_length."""
        n_local: PositiveInt = 2
        """Near blocks that a token sees to each side, its own among them."""
        stride: PositiveInt | None = 8
        """Blocks 0, stride, 2 stride, … are seen from everywhere; null: near blocks only."""

        def size_in(self, dims: Any) -> int:
            """Positions in a block of a model of `dims`."""
            return self.block_size or -(-dims.context_length // 16)

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if self.window:
                yield "window", "n_local says already how far a token sees; leave the window out"
            if self.n_local * self.size_in(dims) > dims.context_length:
                yield (
                    "n_local",
                    f"{self.n_local} blocks of {self.size_in(dims)} exceed context_length {dims.context_length}, "
                    "so nothing would be sparse; take fewer or smaller blocks",
                )
            if self.stride == 1:
                yield "stride", "of 1 shows every block, so nothing would be sparse; take 2 or more, or null"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.block_size = config.size_in(dims)
        if config.stride is None:  # what is older is never seen again, so the cache may be a ring
            self.window = config.n_local * self.block_size
            self.supports_rollback = False

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.config.dropout if self.training else 0.0
        if "attention" in context.capture:
            visible = context.attention_mask(k_pos) & self.in_pattern(context.positions, k_pos)
            weights = attention_weights(q, k, visible=visible, bias=context.bias(k_pos))
            return weighted_sum(F.dropout(weights, dropout), v), weights
        if context.trivially_causal:
            blocks = self.blocks_seen(-(-q.shape[2] // self.block_size), context.causal, q.device)
            if blocks.shape[1] < blocks.shape[0]:  # else there is no work to save
                return self._over_blocks(q, k, v, context, blocks, dropout), None
        visible = context.attention_mask(k_pos) & self.in_pattern(context.positions, k_pos)
        return self._attention(q, k, v, visible, context.bias(k_pos), dropout), None

    def in_pattern(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """(B|1, 1, T, S) bool: the block of the key is one that the query may see. A padding query sees all."""
        q_block = q_pos[:, None, :, None] // self.block_size
        k_block = k_pos[:, None, None, :] // self.block_size
        seen = (q_block - k_block).abs() < self.config.n_local
        if self.config.stride is not None:
            seen = seen | (k_block % self.config.stride == 0)
        return seen | (q_block < 0)

    def blocks_seen(self, n_blocks: int, causal: bool, device: Any) -> Tensor:
        """(n_blocks, n_seen): the blocks that each block computes scores against; -1 for one that it does not have."""
        n_local, stride = self.config.n_local, self.config.stride
        own = torch.arange(n_blocks, device=device)[:, None]
        near = own + torch.arange(1 - n_local, 1 if causal else n_local, device=device)
        near = near.masked_fill(near >= n_blocks, -1).clamp(min=-1)
        if stride is None:
            return near
        far = torch.arange(0, n_blocks, stride, device=device).expand(n_blocks, -1)
        hidden = (own - far).abs() < n_local  # near already
        if causal:
            hidden = hidden | (far > own)
        return torch.cat([near, far.masked_fill(hidden, -1)], dim=1)

    def _over_blocks(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, blocks: Tensor, dropout: float
    ) -> Tensor:
        """Like `_attention`, each block of queries against the blocks of keys that it sees: (B, H, T, D)."""
        B, H, T, D = q.shape
        q, k, v = (self._in_blocks(x) for x in (q, k, v))  # (B*H, N, block_size, D)
        # Blocks are rows of a batch now, which is all that the rules of a step need to know. An index of -1 takes some
        # block, and the position -1 hides it.
        position = F.pad(context.positions[0], (0, -T % self.block_size), value=-1).view(len(blocks), -1)
        k_pos = position[blocks].masked_fill(blocks[..., None] < 0, -1).flatten(1)  # (N, n_seen * block_size)
        rows = replace(context, positions=position, self_bias=None)
        bias = rows.bias(k_pos)
        y = self._attention(
            q.transpose(0, 1),
            k[:, blocks].flatten(2, 3).transpose(0, 1),  # (N, B*G, n_seen * block_size, D)
            v[:, blocks].flatten(2, 3).transpose(0, 1),
            rows.attention_mask(k_pos),
            None if bias is None else bias.repeat(1, B, 1, 1),
            dropout,
        )  # (N, B*H, block_size, D)
        return y.transpose(0, 1).reshape(B, H, -1, D)[:, :, :T]

    def _in_blocks(self, x: Tensor) -> Tensor:
        """(B, H, T, D) -> (B*H, N, block_size, D), the end filled up."""
        x = F.pad(x, (0, 0, 0, -x.shape[2] % self.block_size))
        return x.reshape(x.shape[0] * x.shape[1], -1, self.block_size, x.shape[3])

    def _attention(
        self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor, bias: Tensor | None, dropout: float
    ) -> Tensor:
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=score_mask(visible, bias, q.dtype),
            dropout_p=dropout,
            enable_gqa=self.n_kv_heads != self.n_heads,
        )
