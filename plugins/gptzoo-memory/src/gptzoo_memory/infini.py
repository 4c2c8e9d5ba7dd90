"""Infini-attention: exact attention inside a segment, a compressive memory of everything before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

import gptzoo
from gptzoo_memory.compressive import features, read, written
from gptzoo_memory.segments import Segments


class Heads(NamedTuple):
    """What attention works on, (B, H, T, D) each."""

    q: Tensor
    k: Tensor
    v: Tensor
    memory_q: Tensor  # the features by which the memory is read
    memory_k: Tensor  # and written; 0 for padding, which so adds nothing


class InfiniAttention(gptzoo.Attention):
    """Infini-attention: softmax attention inside a segment, and a memory of fixed size of all earlier segments.

    A token's segment is its position // segment_length. Each head mixes what it attends to in the segment with what it
    reads from its memory, by a learned gate. The memory is written and read by features of queries and keys that no
    position is turned into, as in the paper; rotation and score bias act inside the segment alone.

    The state does not grow: keys and values of one segment, the `memory` of all closed segments, and in `pending` what
    the open one will add to it. `pending` is kept token by token, so no key is needed again when its segment closes.
    """

    name = "infini"
    paper = "Munkhdalai et al. 2024, Leave No Context Behind: Infini-attention, arXiv:2404.07143"
    supports = frozenset({"rotate", "bias", "padding"})

    class Config(gptzoo.Attention.Config):
        segment_length: PositiveInt | None = None
        """Tokens that see each other directly; null is a quarter of context_length."""
        update: Literal["linear", "delta"] = "linear"
        """How a segment is written: as it is, or (delta) without what the memory already says of its keys."""
        dropout: float | None = gptzoo.inherited("dropout", "Of the attention weights inside the segment.")
        out_dropout: float | None = gptzoo.inherited("dropout", "Of the output, before it joins the residual stream.")
        qkv_bias: bool | None = gptzoo.inherited("bias")
        out_bias: bool | None = gptzoo.inherited("bias")

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if self.segment_length and self.segment_length > dims.context_length:
                reason = f"{self.segment_length} is longer than context_length {dims.context_length}"
                yield "segment_length", f"{reason}: the memory would never be used"
            for option in ("dropout", "out_dropout"):
                if not 0 <= (getattr(self, option) or 0) < 1:
                    yield option, "should be at least 0 and below 1"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        self.rotary_dim = self.d_head
        self.segment_length = config.segment_length or max(1, dims.context_length // 4)
        width = self.n_heads * self.d_head
        self.qkv = nn.Linear(dims.d_model, 3 * width, bias=config.qkv_bias)
        self.gate = nn.Parameter(torch.empty(self.n_heads))  # of the memory, before the sigmoid
        self.out = nn.Linear(width, dims.d_model, bias=config.out_bias)
        self.out.writes_residual = True  # type: ignore[assignment]
        self.out_dropout = nn.Dropout(config.out_dropout)

    def initialise(self, rng: Any) -> None:
        nn.init.zeros_(self.gate)  # half and half

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: dict[str, Tensor] | None = None) -> Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.n_heads, self.d_head).permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        real = (context.positions >= 0)[:, None, :, None]
        heads = Heads(*context.rotate(q, k), v, features(q), features(k) * real)
        # Whole segments are attended to block by block; what is shorter, or goes on from a cache, under a mask.
        in_blocks = context.no_past and (context.trivially_causal or self.segment_length < T)
        local, recalled = (self._in_blocks if in_blocks else self._by_positions)(heads, context, state)
        gate = self.gate.sigmoid()[:, None, None]
        y = gate * recalled.to(v.dtype) + (1 - gate) * local  # (B, H, T, D)
        return self.out_dropout(self.out(y.transpose(1, 2).reshape(B, T, -1)))

    def _in_blocks(
        self, heads: Heads, context: gptzoo.ForwardContext, state: dict[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """What is attended to and what is recalled, all segments at once; nothing came before."""
        B, _, T, _ = heads.q.shape
        segments = Segments(context, T, self.segment_length)
        cut = Heads(*map(segments.cut, heads))  # (B, H, N, L, D) each
        memories, additions = self._memories(cut.memory_k, cut.v)
        recalled = read(cut.memory_q, memories)

        at = segments.positions.expand(B, -1).reshape(-1, segments.length)  # (B N, L)
        bias = context.positional.bias(at, at)
        unmasked = context.trivially_causal and bias is None
        mask = None if unmasked else dataclasses.replace(context, positions=at).visible(at)
        q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in (cut.q, cut.k, cut.v))  # (B N, H, L, D) each
        local = self._attend(q, k, v, mask, bias).unflatten(0, (B, -1)).transpose(1, 2)

        if state is not None:
            self._keep(state, heads, context)
            row, last = torch.arange(B, device=at.device), segments.last()
            state["memory"].copy_(memories[row, :, last])
            state["pending"].copy_(additions[row, :, last])
        return segments.join(local), segments.join(recalled)

    def _memories(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Key features and values (B, H, N, L, D) -> the memory before each segment, and what each adds to it."""
        if self.config.update == "linear":
            additions = written(k, v)  # (B, H, N, D, D + 1)
            return F.pad(additions[:, :, :-1].cumsum(2), (0, 0, 0, 0, 1, 0)), additions
        memories, added = [], []
        memory = self._empty(k)
        for keys, values in zip(k.unbind(2), v.unbind(2), strict=True):
            memories.append(memory)
            added.append(written(keys, values, known=memory))
            memory = memory + added[-1]
        return torch.stack(memories, dim=2), torch.stack(added, dim=2)

    def _by_positions(
        self, heads: Heads, context: gptzoo.ForwardContext, state: dict[str, Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """The same, whatever the positions and what came before: a mask, and the memory from segment to segment."""
        L, (q, k, v, memory_q, memory_k), k_pos = self.segment_length, heads, context.positions
        segment = context.positions // L  # (B|1, T), -1 is padding
        memory = pending = self._empty(memory_k)
        open_segment = segment.new_full((1, 1), -1)  # to which `pending` belongs; -1 is none
        if state is not None:
            memory, pending = state["memory"].to(memory.dtype), state["pending"].to(memory.dtype)
            open_segment = state["position"].amax(1, keepdim=True) // L  # (B, 1)
            k, v, k_pos = self._keep(state, heads, context)  # (B, H, S, D), (B, H, S, D), (B|1, S)
        together = segment[:, None, :, None] == (k_pos // L)[:, None, None, :]
        local = self._attend(q, k, v, context.attention_mask(k_pos) & together, context.bias(k_pos))

        last = torch.maximum(segment.amax(1, keepdim=True), open_segment)
        first = torch.where(segment >= 0, segment, last).amin(1, keepdim=True)
        recalled = torch.zeros_like(memory_q)
        for index in range((q.shape[2] + L - 2) // L + 1):  # as many as the tokens touch wherever the first one is
            now = first + index  # (B|1, 1)
            closes = ((now > open_segment) & (now <= last))[..., None, None]  # what is pending joins the memory
            memory = torch.where(closes, memory + pending, memory)
            here = (segment == now)[:, None, :, None]
            recalled = torch.where(here, read(memory_q, memory), recalled)
            known = memory if self.config.update == "delta" else None
            pending = pending.masked_fill(closes, 0) + written(memory_k * here, heads.v, known)
        if state is not None:
            state["memory"].copy_(memory)
            state["pending"].copy_(pending)
        return local, recalled

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None) -> Tensor:
        """Softmax attention, (…, H, T, D) against (…, H, S, D); without a mask it is causal."""
        if mask is not None and bias is not None:
            mask = bias.to(q.dtype).masked_fill(~mask, float("-inf"))
        dropout = self.config.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None)

    def _empty(self, like: Tensor) -> Tensor:
        """(B, H, D, D + 1): a memory of nothing."""
        return like.new_zeros(like.shape[0], self.n_heads, self.d_head, self.d_head + 1)

    def _keep(
        self, state: dict[str, Tensor], heads: Heads, context: gptzoo.ForwardContext
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write keys and values to the ring; return those that may be seen, (B, H, S, D), and their positions."""
        new = {"k": heads.k.transpose(1, 2), "v": heads.v.transpose(1, 2)}
        seen, k_pos = gptzoo.extend(state, new, context.positions, no_past=context.no_past)
        return seen["k"].transpose(1, 2), seen["v"].transpose(1, 2), k_pos

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> dict[str, Tensor]:
        shape = (self.n_heads, self.d_head)
        ring = gptzoo.new_cache(batch_size, self.segment_length, {"k": shape, "v": shape}, device=device, dtype=dtype)
        like = torch.empty(batch_size, 0, device=device, dtype=torch.promote_types(dtype, torch.float32))
        return {**ring, "memory": self._empty(like), "pending": self._empty(like)}
