"""Attentions whose cached past is wrong: after many tokens, with large windows, or with other options."""

from __future__ import annotations

import dataclasses

import torch
from pydantic import PositiveInt

from gptzoo.components.attention import NaiveAttention, SdpaAttention

from .table import caught_by


@caught_by("decoding")
class WindowPlusOne(SdpaAttention):
    """Sliding-window attention. Wrong: with a window above 8, a forward over many tokens sees one token too many."""

    name = "window_plus_one"

    def attend(self, q, k, v, context, k_pos):
        window = self.window
        if window and window > 8 and q.shape[2] > 1:
            self.window = window + 1
        try:
            return super().attend(q, k, v, context, k_pos)
        finally:
            self.window = window


class WideHeads(NaiveAttention):
    """Attention with its own head width."""

    name = "wide_heads"

    class Config(NaiveAttention.Config):
        head_width: PositiveInt | None = None
        """Width of a head. Default: d_model / n_heads."""

        def problems(self, dims):
            yield from super().problems(dims)
            if self.head_width and self.head_width % 2:
                yield "head_width", "should be even"

    def __init__(self, config, dims):
        super().__init__(config, dataclasses.replace(dims, head_width=config.head_width or dims.head_width))
        self.default_width = dims.d_head


@caught_by("decoding")
class HeadWidth(WideHeads):
    """Attention with its own head width. Wrong: the scores of a prompt ignore what is beyond d_model / n_heads."""

    name = "head_width"

    def attend(self, q, k, v, context, k_pos):
        if self.d_head > self.default_width and q.shape[2] > 1:
            q = torch.cat([q[..., : self.default_width], torch.zeros_like(q[..., self.default_width :])], -1)
        return super().attend(q, k, v, context, k_pos)


@caught_by("decoding")
class RecentKeys(NaiveAttention):
    """Attention with a fast decode step. Wrong: that step reads the last 32 keys of the cache only."""

    name = "recent_keys"

    def attend(self, q, k, v, context, k_pos):
        if q.shape[2] == 1 and k.shape[2] > 32:
            k, v, k_pos = k[:, :, -32:], v[:, :, -32:], k_pos[:, -32:]
        return super().attend(q, k, v, context, k_pos)


@caught_by("decoding")
class FixedCache(NaiveAttention):
    """Attention with a cache of a fixed size. Wrong: beyond 64 tokens the cache overwrites its first tokens."""

    name = "fixed_cache"

    def new_state(self, batch_size, max_length, *, device, dtype):
        return super().new_state(batch_size, min(max_length, 64), device=device, dtype=dtype)


@caught_by("decoding")
class GroupsInStep(NaiveAttention):
    """Grouped-query attention. Wrong: a decode step assigns query heads to key heads in another order."""

    name = "groups_in_step"

    def attend(self, q, k, v, context, k_pos):
        if q.shape[2] == 1 and 1 < self.n_kv_heads < self.n_heads:
            order = torch.arange(self.n_heads, device=q.device).view(-1, self.n_kv_heads).T.flatten()
            y, weights = super().attend(q[:, order], k, v, context, k_pos)
            return y[:, order.argsort()], weights
        return super().attend(q, k, v, context, k_pos)


@caught_by("rollback")
class LargeRing(NaiveAttention):
    """Sliding-window attention. Wrong: it takes a ring buffer of more than eight slots for a full cache."""

    name = "large_ring"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.supports_rollback = self.window is None or self.window > 8


@caught_by("reorder")
class PrefixOfBatch(NaiveAttention):
    """Attention that keeps the keys of a long prompt aside. Wrong: they stay with the module, not with the rows."""

    name = "prefix_of_batch"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.prompt = None

    def attend(self, q, k, v, context, k_pos):
        if context.no_past:
            self.prompt = (k.detach(), v.detach()) if k.shape[2] > 16 else None
        elif self.prompt is not None and self.prompt[0].shape[0] == k.shape[0]:
            n = min(self.prompt[0].shape[2], k.shape[2])
            k = torch.cat([self.prompt[0][:, :, :n], k[:, :, n:]], dim=2)
            v = torch.cat([self.prompt[1][:, :, :n], v[:, :, n:]], dim=2)
        return super().attend(q, k, v, context, k_pos)


@caught_by("engine")
class SlotEight(NaiveAttention):
    """Attention that decodes eight rows at a time. Wrong: later rows use the positions of the eighth."""

    name = "slot_eight"

    def attend(self, q, k, v, context, k_pos):
        if q.shape[2] == 1 and context.positions.shape[0] > 8:
            row = torch.arange(context.positions.shape[0], device=q.device).clamp(max=7)
            context = dataclasses.replace(context, positions=context.positions[row], memo={})
        return super().attend(q, k, v, context, k_pos)


@caught_by("state")
class SharedState(NaiveAttention):
    """Attention that reuses the memory of long caches. Wrong: two caches of the same size share their tensors."""

    name = "shared_state"

    def __init__(self, config, dims):
        super().__init__(config, dims)
        self.pool = {}

    def new_state(self, batch_size, max_length, *, device, dtype):
        if max_length <= 32:
            return super().new_state(batch_size, max_length, device=device, dtype=dtype)
        key = batch_size, max_length, dtype
        if key not in self.pool:
            self.pool[key] = super().new_state(batch_size, max_length, device=device, dtype=dtype)
        return self.pool[key]
