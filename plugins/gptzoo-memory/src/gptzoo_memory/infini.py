"""Infini-attention: softmax attention within a segment, and a compressive memory of all earlier segments."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

import gptzoo
from gptzoo_memory.compressive import features, memory_update, read
from gptzoo_memory.segments import Segments


class Heads(NamedTuple):
    """Queries, keys and values of the new tokens, (B, H, T, D) each."""

    q: Tensor
    k: Tensor
    v: Tensor
    memory_q: Tensor  # features for reading from the memory
    memory_k: Tensor  # features for writing to the memory; 0 for padding, so that padding adds nothing


class InfiniAttention(gptzoo.Attention):
    """Infini-attention: softmax attention within a segment, mixed with a fixed-size memory of all earlier segments.

    The segment of a token is its position // segment_length. In each head, a learned gate mixes what the token attends
    to in its segment with what it reads from the memory. As in the paper, the memory uses features of queries and keys
    without positions. Rotation and score bias apply within a segment only.

    The state has a fixed size. It holds the keys and values of one segment, the `memory` of all complete segments, and
    in `pending` the update of the memory by the current segment. `pending` is updated token by token, so keys are not
    needed again when their segment is complete.
    """

    name = "infini"
    paper = "Munkhdalai et al. 2024, Leave No Context Behind: Infini-attention, arXiv:2404.07143"
    supports = frozenset({"rotate", "bias", "padding", "d_head"})

    class Config(gptzoo.Attention.Config):
        segment_length: PositiveInt | None = None
        """Length of a segment in tokens, at most context_length. Default: a quarter of context_length."""
        update: Literal["linear", "delta"] = "linear"
        """Update rule of the memory: `linear` adds each value, `delta` adds the difference from the stored value."""
        dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for the attention weights within a segment. Default: the model's `dropout`."""
        out_dropout: gptzoo.Inherited[float] = gptzoo.inherited("dropout")
        """Dropout probability for the output, before the residual addition. Default: the model's `dropout`."""
        qkv_bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn a bias in the query, key and value projections. Default: the model's `bias`."""
        out_bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")
        """Learn a bias in the output projection. Default: the model's `bias`."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if self.segment_length and self.segment_length > dims.context_length:
                yield (
                    "segment_length",
                    f"{self.segment_length} is longer than context_length {dims.context_length}, so training would "
                    "never use the memory",
                )
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        self.rotary_dim = self.d_head
        self.segment_length = config.segment_length or max(1, dims.context_length // 4)
        width = self.n_heads * self.d_head
        self.qkv = nn.Linear(dims.d_model, 3 * width, bias=config.qkv_bias)
        self.gate = nn.Parameter(torch.empty(self.n_heads))  # logit of the share that comes from the memory
        self.out = nn.Linear(width, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def initialise(self, rng: gptzoo.Rng) -> None:
        nn.init.zeros_(self.gate)  # equal shares of memory and local attention

    def fused_blocks(self) -> Mapping[str, gptzoo.FusedBlocks]:
        width = self.n_heads * self.d_head
        return {"qkv.weight": gptzoo.FusedBlocks((width, width, width))}

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_heads, self.d_head).permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        is_token = (context.positions >= 0)[:, None, :, None]
        heads = Heads(*context.rotate(q, k), v, features(q), features(k) * is_token)
        # Without a past, segments are computed in parallel, unless all tokens fit into one segment but need a mask.
        in_parallel = context.no_past and (context.trivially_causal or self.segment_length < T)
        attend = self._attend_in_parallel if in_parallel else self._attend_by_positions
        local, from_memory = attend(heads, context, state)
        gate = self.gate.sigmoid()[:, None, None]
        y = gate * from_memory.to(v.dtype) + (1 - gate) * local  # (B, H, T, D)
        return self.out_dropout(self.out(y.transpose(1, 2).reshape(B, T, -1)))

    def _attend_in_parallel(
        self, heads: Heads, context: gptzoo.ForwardContext, state: gptzoo.State | None
    ) -> tuple[Tensor, Tensor]:
        """Return the local attention and the read from memory for all segments at once, if there is no past."""
        B, _, T, _ = heads.q.shape
        segments = Segments(context, T, self.segment_length)
        by_segment = Heads(*map(segments.split, heads))  # (B, H, N, L, D) each
        memories, updates = self._memories(by_segment.memory_k, by_segment.v)
        from_memory = read(by_segment.memory_q, memories)

        pos = segments.positions.expand(B, -1).reshape(-1, segments.length)  # (B N, L)
        bias = context.positional.bias(pos, pos)
        unmasked = context.trivially_causal and bias is None
        mask = None if unmasked else dataclasses.replace(context, positions=pos).attention_mask(pos)
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in by_segment[:3])  # (B N, H, L, D) each
        local = self._attend(q, k, v, mask, bias).unflatten(0, (B, -1)).transpose(1, 2)

        if state is not None:
            self._extend_cache(state, heads, context)
            batch_index, last = torch.arange(B, device=pos.device), segments.last()
            state["memory"].copy_(memories[batch_index, :, last])
            state["pending"].copy_(updates[batch_index, :, last])
        return segments.join(local), segments.join(from_memory)

    def _memories(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory before each segment, and the update of the memory by each segment.

        k are key features and v values, (B, H, N, L, D) each. Memories and updates are (B, H, N, D, D + 1).
        """
        if self.config.update == "linear":
            updates = memory_update(k, v)
            return F.pad(updates[:, :, :-1].cumsum(2), (0, 0, 0, 0, 1, 0)), updates
        memories, delta_updates = [], []
        memory = self._empty_memory(k)
        for keys, values in zip(k.unbind(2), v.unbind(2), strict=True):
            memories.append(memory)
            delta_updates.append(memory_update(keys, values, memory))
            memory = memory + delta_updates[-1]
        return torch.stack(memories, dim=2), torch.stack(delta_updates, dim=2)

    def _attend_by_positions(
        self, heads: Heads, context: gptzoo.ForwardContext, state: gptzoo.State | None
    ) -> tuple[Tensor, Tensor]:
        """Return the local attention, under a mask, and the read from memory, segment by segment, for any positions."""
        L, (q, k, v, memory_q, memory_k), k_pos = self.segment_length, heads, context.positions
        segment = context.positions // L  # (B|1, T), -1 is padding
        memory = pending = self._empty_memory(memory_k)
        pending_segment = segment.new_full((1, 1), -1)  # the segment that `pending` belongs to, -1 for none
        if state is not None:
            memory, pending = state["memory"].to(memory.dtype), state["pending"].to(memory.dtype)
            pending_segment = state["position"].amax(1, keepdim=True) // L  # (B, 1)
            k, v, k_pos = self._extend_cache(state, heads, context)  # (B, H, S, D), (B, H, S, D), (B|1, S)
        same_segment = segment[:, None, :, None] == (k_pos // L)[:, None, None, :]
        local = self._attend(q, k, v, context.attention_mask(k_pos) & same_segment, context.bias(k_pos))

        last = torch.maximum(segment.amax(1, keepdim=True), pending_segment)
        first = torch.where(segment >= 0, segment, last).amin(1, keepdim=True)
        from_memory = torch.zeros_like(memory_q)
        max_segments = (q.shape[2] + L - 2) // L + 1  # the most segments that T positions can touch
        for index in range(max_segments):
            current = first + index  # (B|1, 1)
            # A sequence enters a new segment: the pending update of the one before it joins the memory.
            enters = ((current > pending_segment) & (current <= last))[..., None, None]
            memory = torch.where(enters, memory + pending, memory)
            in_current = (segment == current)[:, None, :, None]
            from_memory = torch.where(in_current, read(memory_q, memory), from_memory)
            stored = memory if self.config.update == "delta" else None
            pending = pending.masked_fill(enters, 0) + memory_update(memory_k * in_current, heads.v, stored)
        if state is not None:
            state["memory"].copy_(memory)
            state["pending"].copy_(pending)
        return local, from_memory

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
        """Return the softmax attention of (…, H, T, D) to (…, H, S, D). Without a mask it is causal."""
        if mask is not None and bias is not None:
            mask = bias.to(q.dtype).masked_fill(~mask, float("-inf"))
        dropout = self.config.dropout if self.training else 0.0
        return gptzoo.fused_attention(q, k, v, mask=mask, is_causal=mask is None, dropout=dropout)

    def _empty_memory(self, like: Tensor) -> Tensor:
        """Return zeros (B, H, D, D + 1) with the batch size, device and dtype of `like`."""
        return like.new_zeros(like.shape[0], self.n_heads, self.d_head, self.d_head + 1)

    def _extend_cache(
        self, state: gptzoo.State, heads: Heads, context: gptzoo.ForwardContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Append keys and values to the ring buffer. Return all cached keys and values (B, H, S, D), and positions."""
        new = {"k": heads.k.transpose(1, 2), "v": heads.v.transpose(1, 2)}
        cached, k_pos = gptzoo.extend(state, new, context.positions, no_past=context.no_past)
        return cached["k"].transpose(1, 2), cached["v"].transpose(1, 2), k_pos

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        shape = (self.n_heads, self.d_head)
        cache = gptzoo.new_cache(batch_size, self.segment_length, {"k": shape, "v": shape}, device=device, dtype=dtype)
        like = torch.empty(batch_size, 0, device=device, dtype=torch.promote_types(dtype, torch.float32))
        return {**cache, "memory": self._empty_memory(like), "pending": self._empty_memory(like)}
