"""Recurrent attentions: a right one in chunks, and wrong ones whose mistakes begin beyond a chunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import gptzoo

from .table import caught_by


class ChunkedLinear(gptzoo.Attention):
    """Linear attention in chunks of 64 with a matrix of memory per head."""

    name = "chunked_linear"
    supports = frozenset({"rotate"})

    class Config(gptzoo.Attention.Config):
        bias: bool | None = gptzoo.inherited("bias", "Learn a bias in the projections.")

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.n_heads, self.d_head = dims.n_heads, dims.d_head
        self.rotary_dim = self.d_head
        self.qkv = nn.Linear(dims.d_model, 3 * dims.d_model, bias=config.bias)
        self.out = nn.Linear(dims.d_model, dims.d_model, bias=config.bias)
        self.out.writes_residual = True

    def forward(self, x, context, state=None):
        B, T, C = x.shape
        q, k, v = (p.view(B, T, self.n_heads, self.d_head).transpose(1, 2) for p in self.qkv(x).chunk(3, -1))
        q, k = context.rotate(q, k)
        wide = torch.promote_types(x.dtype, torch.float32)
        q, k, v = q.to(wide) * self.d_head**-0.5, k.to(wide), v.to(wide)
        memory = state["memory"].to(wide) if state is not None else k.new_zeros(B, self.n_heads, *[self.d_head] * 2)
        y, memory = self.recur(q, k, v, memory)
        if state is not None:
            state["memory"].copy_(memory)
        y = F.layer_norm(y.transpose(1, 2), (self.d_head,)).to(x.dtype)
        return self.out(y.reshape(B, T, C))

    def recur(self, q, k, v, memory):
        """Return the outputs (B, H, T, D), and the memory (B, H, D, D) after the last token."""
        T = q.shape[2]
        size = min(64, T)
        q, k, v = (F.pad(p, (0, 0, 0, -T % size)).unflatten(2, (-1, size)) for p in (q, k, v))
        causal = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
        within = (q @ k.mT).masked_fill(~causal, 0.0) @ v
        written = k.mT @ v  # (B, H, chunks, D, D)
        y = (within + q @ (self.before(written) + memory[:, :, None])).flatten(2, 3)[:, :, :T]
        return y, memory + written.sum(2)

    def before(self, written):
        """Return the sum of what the chunks before each chunk wrote, (B, H, chunks, D, D)."""
        return written.cumsum(2) - written

    def new_state(self, batch_size, max_length, *, device, dtype):
        shape = batch_size, self.n_heads, self.d_head, self.d_head
        return {"memory": torch.zeros(shape, device=device, dtype=torch.promote_types(dtype, torch.float32))}


@caught_by("decoding")
class ChunkDrop(ChunkedLinear):
    """Linear attention in chunks of 64. Wrong: a chunk sees only the chunk just before it."""

    name = "chunk_drop"

    def before(self, written):
        return torch.cat([torch.zeros_like(written[:, :, :1]), written[:, :, :-1]], 2)


@caught_by("causality")
class ChunkTotal(ChunkedLinear):
    """Linear attention in chunks of 64. Wrong: the last chunk also sees what it writes itself."""

    name = "chunk_total"

    def before(self, written):
        before = super().before(written)
        if before.shape[2] > 2:
            before[:, :, -1] += written[:, :, -1]
        return before


class GatedLinear(ChunkedLinear):
    """Linear attention with a forget gate per head and token: a key decays by all gates after it."""

    name = "gated_linear"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.gate = nn.Linear(dims.d_model, dims.n_heads)

    def forward(self, x, context, state=None):
        self.log_gate = F.logsigmoid(self.gate(x)).mT  # (B, H, T)
        return super().forward(x, context, state)

    def recur(self, q, k, v, memory):
        q, k = q.softmax(-1), k.softmax(-1)
        total = self.total_decay(self.log_gate).to(q.dtype)  # (B, H, T)
        causal = torch.ones(total.shape[-1], total.shape[-1], dtype=torch.bool, device=q.device).tril()
        decay = (total[..., :, None] - total[..., None, :]).masked_fill(~causal, float("-inf")).exp()
        y = (q @ k.mT * decay) @ v + total.exp()[..., None] * (q @ memory)
        left = (total[..., -1:] - total).exp()[..., None]
        return y, total[..., -1].exp()[..., None, None] * memory + (k * left).mT @ v

    def total_decay(self, log_gate):
        """Return the running sum of the logarithms of the gates (B, H, T)."""
        return log_gate.to(torch.promote_types(log_gate.dtype, torch.float32)).cumsum(-1)


@caught_by("precision")
class NarrowDecay(GatedLinear):
    """Linear attention with a forget gate. Wrong: the decay is summed up in bfloat16, which has 8 bits."""

    name = "narrow_decay"

    def total_decay(self, log_gate):
        return log_gate.cumsum(-1)


@caught_by("decoding")
class CountedSteps(ChunkedLinear):
    """Linear attention that halves its memory now and then. Wrong: the module counts decode steps for all texts."""

    name = "counted_steps"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.n_steps = 0

    def recur(self, q, k, v, memory):
        if q.shape[2] == 1:
            self.n_steps += 1
            if self.n_steps > 64 and self.n_steps % 16 == 0:
                memory = memory / 2
        return super().recur(q, k, v, memory)


@caught_by("reset")
class StickyMemory(ChunkedLinear):
    """Linear attention with a cached memory. Wrong: an empty memory is filled with that of the last long prompt."""

    name = "sticky_memory"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.kept = None

    def forward(self, x, context, state=None):
        if state is not None and not context.no_past and self.kept is not None:
            empty = ~state["memory"].flatten(1).any(-1)
            if self.kept.shape == state["memory"].shape:
                state["memory"][empty] = self.kept[empty].to(state["memory"].dtype)
        y = super().forward(x, context, state)
        if state is not None and x.shape[1] > 64:
            self.kept = state["memory"].detach().clone()
        return y
