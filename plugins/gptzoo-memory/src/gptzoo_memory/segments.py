"""Rows of tokens cut into segments by their positions: a token's segment is its position // length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import gptzoo


class Segments:
    """Where each token of a step goes when every row is cut into `n` segments of `length` slots.

    A row's first segment is that of its first token. In a plain step token t is at slot t; else rows are aligned: a
    token goes to the slot of its position, and padding to one slot more, which is dropped.
    """

    def __init__(self, context: gptzoo.ForwardContext, n_tokens: int, length: int):
        self.n_tokens = n_tokens
        self.slot: Tensor | None = None  # (B|1, T)
        if context.trivially_causal:
            self.length = min(length, n_tokens)
            self.n = -(-n_tokens // self.length)
            n_slots = self.n * self.length
            self.positions = torch.arange(n_slots, device=context.positions.device)[None]  # (B|1, n_slots)
        else:
            self.length = length
            self.n = (n_tokens + length - 2) // length + 1  # as many as they touch wherever the first one is
            n_slots = self.n * self.length
            at = context.positions
            begin = torch.where(at >= 0, at, at.amax(1, keepdim=True)).amin(1, keepdim=True) // length * length
            self.slot = torch.where(at >= 0, at - begin, n_slots)
            empty = at.new_full((at.shape[0], n_slots + 1), -1)
            self.positions = empty.scatter(1, self.slot, at)[:, :-1]

    def cut(self, x: Tensor) -> Tensor:
        """(B, H, T, D) -> (B, H, n, length, D), with 0 where there is no token."""
        n_slots = self.n * self.length
        if self.slot is None and self.n_tokens < n_slots:
            x = F.pad(x, (0, 0, 0, n_slots - self.n_tokens))
        elif self.slot is not None:
            index = self.slot[:, None, :, None].expand_as(x)
            x = x.new_zeros(*x.shape[:2], n_slots + 1, x.shape[3]).scatter(2, index, x)[:, :, :-1]
        return x.unflatten(2, (self.n, self.length))

    def join(self, x: Tensor) -> Tensor:
        """(B, H, n, length, D) -> (B, H, T, D); what padding gets is of no meaning."""
        x = x.flatten(2, 3)
        if self.slot is None:
            return x[:, :, : self.n_tokens]
        index = self.slot.clamp(max=x.shape[2] - 1)[:, None, :, None]
        return x.gather(2, index.expand(*x.shape[:2], -1, x.shape[3]))

    def last(self) -> Tensor:
        """(B|1,): the segment of a row's last token, counted from the row's first segment; 0 if all is padding."""
        if self.slot is None:
            return self.positions[:, -1] // self.length
        return torch.where(self.slot < self.n * self.length, self.slot, 0).amax(1) // self.length
