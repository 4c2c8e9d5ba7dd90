"""Division of sequences into segments by position: the segment of a token is its position // length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import gptzoo


class Segments:
    """The division of the new tokens of each sequence into `n` segments of `length` slots.

    The first segment of a sequence is that of its first token. Without padding and past, token t is in slot t.
    Otherwise a token is in the slot of its position, so that segments of all sequences are aligned. Padding goes to one
    additional slot, which is dropped.
    """

    def __init__(self, context: gptzoo.ForwardContext, n_tokens: int, length: int):
        self.n_tokens = n_tokens
        self.slot: Tensor | None = None  # (B|1, T), or None if token t is in slot t
        if context.trivially_causal:
            self.length = min(length, n_tokens)
            self.n = -(-n_tokens // self.length)
            n_slots = self.n * self.length
            self.positions = torch.arange(n_slots, device=context.positions.device)[None]  # (B|1, n_slots)
        else:
            self.length = length
            self.n = (n_tokens + length - 2) // length + 1  # the most segments that n_tokens positions can touch
            n_slots = self.n * self.length
            pos = context.positions
            first_pos = torch.where(pos >= 0, pos, pos.amax(1, keepdim=True)).amin(1, keepdim=True)
            segment_start = first_pos // length * length
            self.slot = torch.where(pos >= 0, pos - segment_start, n_slots)
            empty = pos.new_full((pos.shape[0], n_slots + 1), -1)
            self.positions = empty.scatter(1, self.slot, pos)[:, :-1]

    def split(self, x: Tensor) -> Tensor:
        """Split (B, H, T, D) into segments (B, H, n, length, D). Slots without a token are 0."""
        n_slots = self.n * self.length
        if self.slot is None and self.n_tokens < n_slots:
            x = F.pad(x, (0, 0, 0, n_slots - self.n_tokens))
        elif self.slot is not None:
            index = self.slot[:, None, :, None].expand_as(x)
            x = x.new_zeros(*x.shape[:2], n_slots + 1, x.shape[3]).scatter(2, index, x)[:, :, :-1]
        return x.unflatten(2, (self.n, self.length))

    def join(self, x: Tensor) -> Tensor:
        """Join segments (B, H, n, length, D) into (B, H, T, D). The values for padding are arbitrary."""
        x = x.flatten(2, 3)
        if self.slot is None:
            return x[:, :, : self.n_tokens]
        index = self.slot.clamp(max=x.shape[2] - 1)[:, None, :, None]
        return x.gather(2, index.expand(*x.shape[:2], -1, x.shape[3]))

    def last(self) -> Tensor:
        """Return the index (B|1,) of the segment of each sequence's last token, or 0 if the sequence is all padding."""
        if self.slot is None:
            return self.positions[:, -1] // self.length
        return torch.where(self.slot < self.n * self.length, self.slot, 0).amax(1) // self.length
