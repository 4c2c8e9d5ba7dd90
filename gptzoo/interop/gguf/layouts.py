"""Layouts: differences between the order of values in a GGUF tensor and in the checkpoint tensor it comes from.

Each layout has two conversions, which are each other's inverse. They run on the meta device too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LayoutName = Literal["same", "queries", "keys", "transposed", "grouped", "plus_one"]


@dataclass(frozen=True)
class HeadCounts:
    """The numbers of heads of a model, which layouts of attention weights need."""

    n_heads: int
    n_kv_heads: int


@dataclass(frozen=True)
class Layout:
    """A pair of conversions of one tensor."""

    to_checkpoint: Callable[[Tensor, HeadCounts], Tensor]
    to_gguf: Callable[[Tensor, HeadCounts], Tensor]


def _interleave(weight: Tensor, n_heads: int) -> Tensor:
    """Reorder the rows of each head from rotary pairs (i, i + R/2) to pairs (2i, 2i + 1)."""
    return weight.reshape(n_heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _deinterleave(weight: Tensor, n_heads: int) -> Tensor:
    return weight.reshape(n_heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _group(weight: Tensor, heads: HeadCounts) -> Tensor:
    """Reorder rows from all queries, keys and values to groups: the queries of one key, this key and its value."""
    d_head = len(weight) // (heads.n_heads + 2 * heads.n_kv_heads)
    parts = weight.reshape(-1, d_head, *weight.shape[1:]).split([heads.n_heads, heads.n_kv_heads, heads.n_kv_heads])
    grouped = [part.reshape(heads.n_kv_heads, -1, d_head, *weight.shape[1:]) for part in parts]
    return torch.cat(grouped, dim=1).reshape(weight.shape)


def _ungroup(weight: Tensor, heads: HeadCounts) -> Tensor:
    d_head = len(weight) // (heads.n_heads + 2 * heads.n_kv_heads)
    groups = weight.reshape(heads.n_kv_heads, -1, d_head, *weight.shape[1:])
    parts = groups[:, :-2], groups[:, -2:-1], groups[:, -1:]
    return torch.cat([part.reshape(-1, *weight.shape[1:]) for part in parts])


LAYOUTS: Mapping[LayoutName, Layout] = {
    "same": Layout(lambda weight, heads: weight, lambda weight, heads: weight),
    # llama.cpp rotates the pairs (2i, 2i + 1) in most architectures of Llama's kind.
    "queries": Layout(
        lambda weight, heads: _deinterleave(weight, heads.n_heads),
        lambda weight, heads: _interleave(weight, heads.n_heads),
    ),
    "keys": Layout(
        lambda weight, heads: _deinterleave(weight, heads.n_kv_heads),
        lambda weight, heads: _interleave(weight, heads.n_kv_heads),
    ),
    # GPT-2's `Conv1D` stores transposed matrices. Its biases are vectors.
    "transposed": Layout(
        lambda weight, heads: weight.t() if weight.ndim == 2 else weight,
        lambda weight, heads: weight.t() if weight.ndim == 2 else weight,
    ),
    "grouped": Layout(_group, _ungroup),
    # Gemma's norms multiply by 1 + weight. GGUF files hold the sum.
    "plus_one": Layout(lambda weight, heads: weight.float() - 1, lambda weight, heads: weight + 1),
}
"""The layouts by name."""
