"""Plainer forms of core parts: torch modules in place of norm layers, and a KV cache for sequences without padding."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptzoo.component import Config
from gptzoo.components.norm import LayerNorm, RMSNorm

_TORCH_EPS = 1e-5


def plain_module(config: Config, arguments: list[ast.expr]) -> ast.expr | None:
    """Return the construction of the torch module that equals a part and has the same parameters, if there is one."""
    width = [ast.unparse(argument) for argument in arguments]
    eps = [] if getattr(config, "eps", None) == _TORCH_EPS else [f"eps={getattr(config, 'eps', None)}"]
    if type(config) is RMSNorm.Config:
        affine = [] if config.weight else ["elementwise_affine=False"]
        return _call("nn.RMSNorm", [*width, f"eps={config.eps}", *affine])
    if type(config) is LayerNorm.Config and (config.weight or not config.bias):
        affine = [] if config.bias else ["bias=False"] if config.weight else ["elementwise_affine=False"]
        return _call("nn.LayerNorm", [*width, *eps, *affine])
    return None


def _call(name: str, arguments: list[str]) -> ast.expr:
    return ast.parse(f"{name}({', '.join(arguments)})", mode="eval").body


def new_cache(
    batch_size: int, n_slots: int, shapes: Mapping[str, tuple[int, ...]], *, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Allocate an empty KV cache; `shapes` are the shapes of the cached tensors per position."""
    return {
        name: torch.zeros(batch_size, n_slots, *shape, device=device, dtype=dtype) for name, shape in shapes.items()
    }


def extend(state: dict[str, Tensor], new: dict[str, Tensor], positions: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Write new tensors (B, T, …) at consecutive positions (1, T); return all tensors so far and their positions."""
    start, end = int(positions[0, 0]), int(positions[0, -1]) + 1
    for name, tensor in new.items():
        state[name][:, start:end] = tensor
    return {name: state[name][:, :end] for name in new}, torch.arange(end, device=positions.device)[None]


def attention_mask(q_pos: Tensor, k_pos: Tensor, *, window: int | None = None) -> Tensor:
    """Return the mask (1, 1, T, S) bool: True where a query may attend to a key.

    Such a key is not in the future, and less than `window` positions away.
    """
    distance = q_pos[:, None, :, None] - k_pos[:, None, None, :]
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


PLAIN_FUNCTIONS: dict[str, Any] = {
    "gptzoo.components.cache.new_cache": new_cache,
    "gptzoo.components.cache.extend": extend,
    "gptzoo.components.mask.attention_mask": attention_mask,
}
"""Functions for sequences without padding, in caches that hold all positions. Their calls may have more arguments."""
