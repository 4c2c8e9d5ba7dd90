"""Conversions of checkpoint tensors that several families share. They only move elements, except `add_one`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Conversion = Callable[..., Tensor]


def concatenate(*tensors: Tensor) -> Tensor:
    """Concatenate tensors along dimension 0. Return a single tensor unchanged."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def add_one(weight: Tensor) -> Tensor:
    """Return weight + 1 in float32, as Gemma computes it: its norms multiply by 1 + weight."""
    return weight.float() + 1


def subtract_one(weight: Tensor) -> Tensor:
    """Return weight - 1, the inverse of `add_one`. It is exact for weights from 0.5."""
    return weight - 1


def deinterleave(n_heads: int, d_head: int, rotary_width: int) -> Conversion:
    """Return a conversion of rows from rotary pairs (2i, 2i + 1) to gptzoo's pairs (i, i + R/2).

    The rows are those of `n_heads` heads of width `d_head`. R, the rotary width, is a part of each head.
    """
    order = [*range(0, rotary_width, 2), *range(1, rotary_width, 2), *range(rotary_width, d_head)]

    def convert(weight: Tensor) -> Tensor:
        return weight.view(n_heads, d_head, *weight.shape[1:])[:, order].reshape(weight.shape)

    return convert


def deinterleave_qkv(n_heads: int, n_kv_heads: int, d_head: int, rotary_width: int) -> Conversion:
    """Return a conversion of separate queries, keys and values with interleaved rotary pairs into one matrix."""
    convert_q = deinterleave(n_heads, d_head, rotary_width)
    convert_k = deinterleave(n_kv_heads, d_head, rotary_width)
    return lambda q, k, v: torch.cat([convert_q(q), convert_k(k), v])


def ungroup_qkv(n_heads: int, n_kv_heads: int, d_head: int) -> Conversion:
    """Return a conversion of a fused matrix whose rows are grouped by key/value head.

    Each group holds the queries that share a key, then the key and the value, as in GPT-NeoX, BLOOM and Falcon. The
    result holds all queries, then all keys, then all values.
    """

    def convert(weight: Tensor) -> Tensor:
        rest = weight.shape[1:]
        groups = weight.view(n_kv_heads, n_heads // n_kv_heads + 2, d_head, *rest)
        parts = groups[:, :-2], groups[:, -2], groups[:, -1]
        return torch.cat([part.reshape(-1, *rest) for part in parts])

    return convert


def drop_rows(n: int) -> Conversion:
    """Return a conversion that drops the first `n` rows."""
    return lambda weight: weight[n:]
