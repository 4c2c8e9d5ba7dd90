"""Block-sparse attention, `"attention": "block_sparse"`: local blocks, and every stride-th block of the distant ones.

Child et al. 2019, Generating Long Sequences with Sparse Transformers, arXiv:1904.10509. All tokens attend to the first
block, which makes it a global block as in BigBird, Zaheer et al. 2020, arXiv:2007.14062.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

import gptzoo
from gptzoo_attention.dense import attention_weights, sdpa_mask, weighted_sum


class BlockSparseAttention(gptzoo.SdpaAttention):
    """Block-sparse attention: a token attends to nearby blocks of positions and to every `stride`-th block.

    Unpadded sequences without a past, as in training, compute scores for these blocks only. Padding, packed documents,
    cached decoding and captured weights compute all scores and mask them.
    """

    name = "block_sparse"
    paper = "Child et al. 2019, Generating Long Sequences with Sparse Transformers, arXiv:1904.10509"

    class Config(gptzoo.SdpaAttention.Config):
        block_size: PositiveInt | None = None
        """Number of positions in a block. Default: a sixteenth of context_length."""
        n_local: PositiveInt = 2
        """Number of local blocks in each direction, including the token's own block."""
        stride: PositiveInt | None = 8
        """Distance between global blocks, in blocks: every token also attends to blocks 0, stride, 2 stride, …, as far
        as the causal mask allows. Null: no global blocks."""

        def resolved_block_size(self, dims: gptzoo.Dims) -> int:
            """Return the number of positions in a block of a model with these dimensions."""
            return self.block_size or -(-dims.context_length // 16)

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            block_size = self.resolved_block_size(dims)
            if self.window:
                yield "window", "is not supported: n_local sets the size of the window"
            if self.n_local * block_size > dims.context_length:
                yield (
                    "n_local",
                    f"{self.n_local} blocks of {block_size} positions exceed context_length {dims.context_length}, so "
                    "attention would be dense; use fewer or smaller blocks",
                )
            if self.stride == 1:
                yield "stride", "should not be 1, which makes attention dense; use 2 or more, or null"

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.block_size = config.resolved_block_size(dims)
        if config.stride is None:
            # Blocks before the local ones are never read again, so the cache can be a ring buffer.
            self.window = config.n_local * self.block_size
            self.supports_rollback = False

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.config.dropout if self.training else 0.0
        if "attention" in context.capture:
            mask = context.attention_mask(k_pos) & self.pattern(context.positions, k_pos)
            weights = self._weights(q, k, mask, context.bias(k_pos))
            return weighted_sum(F.dropout(weights, dropout), v), weights
        if context.trivially_causal:
            blocks = self.key_blocks(-(-q.shape[2] // self.block_size), context.causal, q.device)
            if blocks.shape[1] < blocks.shape[0]:  # otherwise the blocks save no work
                return self._attend_by_blocks(q, k, v, context, blocks, dropout), None
        mask = context.attention_mask(k_pos) & self.pattern(context.positions, k_pos)
        return self._attend(q, k, v, mask, context.bias(k_pos), dropout), None

    def pattern(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """Return the mask (B|1, 1, T, S) that is True if the key's block is local to the query's block or global.

        The row of a padding query is True, so that its softmax is defined.
        """
        q_block = q_pos[:, None, :, None] // self.block_size
        k_block = k_pos[:, None, None, :] // self.block_size
        mask = (q_block - k_block).abs() < self.config.n_local
        if self.config.stride is not None:
            mask = mask | (k_block % self.config.stride == 0)
        return mask | (q_block < 0)

    def key_blocks(self, n_blocks: int, causal: bool, device: torch.device) -> Tensor:
        """Return the indices (n_blocks, n_key_blocks) of the key blocks of each query block, with -1 for no block."""
        n_local, stride = self.config.n_local, self.config.stride
        query_block = torch.arange(n_blocks, device=device)[:, None]
        local_blocks = query_block + torch.arange(1 - n_local, 1 if causal else n_local, device=device)
        local_blocks = local_blocks.masked_fill(local_blocks >= n_blocks, -1).clamp(min=-1)
        if stride is None:
            return local_blocks
        global_blocks = torch.arange(0, n_blocks, stride, device=device).expand(n_blocks, -1)
        excluded = (query_block - global_blocks).abs() < n_local  # already among the local blocks
        if causal:
            excluded = excluded | (global_blocks > query_block)
        return torch.cat([local_blocks, global_blocks.masked_fill(excluded, -1)], dim=1)

    def _attend_by_blocks(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, blocks: Tensor, dropout: float
    ) -> Tensor:
        """Attend with each block of queries to its own key blocks only. Return (B, H, T, D)."""
        B, H, T, D = q.shape
        q, k, v = (self._split_into_blocks(x) for x in (q, k, v))  # (B*H, N, block_size, D)
        # The blocks become the batch dimension, for which the forward context computes masks and biases as usual. An
        # index of -1 gathers the last block, and the position -1 masks it.
        block_pos = F.pad(context.positions[0], (0, -T % self.block_size), value=-1).view(len(blocks), -1)
        k_pos = block_pos[blocks].masked_fill(blocks[..., None] < 0, -1).flatten(1)  # (N, n_key_blocks * block_size)
        block_context = replace(context, positions=block_pos, self_bias=None)
        bias = block_context.bias(k_pos)
        y = self._attend(
            q.transpose(0, 1),
            k[:, blocks].flatten(2, 3).transpose(0, 1),  # (N, B*G, n_key_blocks * block_size, D)
            v[:, blocks].flatten(2, 3).transpose(0, 1),
            block_context.attention_mask(k_pos),
            None if bias is None else bias.repeat(1, B, 1, 1),
            dropout,
        )  # (N, B*H, block_size, D)
        return y.transpose(0, 1).reshape(B, H, -1, D)[:, :, :T]

    def _split_into_blocks(self, x: Tensor) -> Tensor:
        """Split (B, H, T, D) into (B*H, N, block_size, D), with zeros after the last token."""
        x = F.pad(x, (0, 0, 0, -x.shape[2] % self.block_size))
        return x.reshape(x.shape[0] * x.shape[1], -1, self.block_size, x.shape[3])

    def _weights(self, q: Tensor, k: Tensor, mask: Tensor, bias: Tensor | None) -> Tensor:
        """Return the attention weights of H heads, or of the H heads of each of several sequences."""
        sinks = None if self.sinks is None else self.sinks.repeat(q.shape[1] // self.n_heads)
        return attention_weights(q, k, mask=mask, bias=bias, softcap=self.config.softcap, sinks=sinks)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        if self.sinks is not None or self.config.softcap is not None:  # torch's kernel has neither
            return weighted_sum(F.dropout(self._weights(q, k, mask, bias), dropout), v)
        attn_mask = sdpa_mask(mask, bias, q.dtype)
        enable_gqa = self.n_kv_heads != self.n_heads
        return gptzoo.fused_attention(q, k, v, mask=attn_mask, dropout=dropout, enable_gqa=enable_gqa)
