"""Parameter groups: the learning rate and weight decay of each parameter, by its name and shape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from gptzoo.training.width_rules import WidthFactors

_BLOCK = re.compile(r"(?P<stack>(?:.*?\.)?)blocks\.(?P<layer>\d+)\.")
_BELOW_BLOCKS = re.compile(r"(?:^|\.)(?:embed[^.]*|positionals|entry)(?:\.|$)")


def layer_of(name: str) -> int | None:
    """Return the index of the block that a parameter is in, or None if it is outside all blocks."""
    match = _BLOCK.match(name)
    return None if match is None else int(match["layer"])


def decay_groups(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return one group of matrices, which decay, and one of vectors (biases and norm scales), which do not."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def lr_groups(
    parameters: Mapping[str, nn.Parameter],
    lr: float,
    weight_decay: float,
    scales: Mapping[str, float],
    *,
    width: Mapping[str, WidthFactors],
    eps: float | None = None,
) -> list[dict[str, Any]]:
    """Return the decay groups for each of the `scales` of `lr`, highest first, because the first one is logged.

    width: the factors of a parametrisation for each parameter, by name.
    eps: constant of the optimizer that is compared with entries of the gradient. Groups have their own `eps` where a
        parametrisation changes it.
    """
    keys = {name: (scales[name] * width[name].lr, width[name].weight_decay, width[name].eps) for name in parameters}
    groups = []
    for key in sorted(set(keys.values()), reverse=True):
        scale, decay_factor, eps_factor = key
        same = {name: parameter for name, parameter in parameters.items() if keys[name] == key}
        own = {} if eps is None or eps_factor == 1 else {"eps": eps * eps_factor}
        groups += [{**group, "lr": lr * scale, **own} for group in decay_groups(same, weight_decay * decay_factor)]
    return groups


def lr_scales(names: Iterable[str], layer_lr_decay: float) -> dict[str, float]:
    """Return the learning-rate factor of each parameter: `layer_lr_decay` per block between it and the head.

    The last block of each stack and everything after it (final norm, head) have 1. Everything before the first block
    (embeddings, positions) is one level below the first block. An encoder is a stack with its own depth.
    """
    names = list(names)
    last_layers: dict[str, int] = {}  # by stack
    for match in filter(None, map(_BLOCK.match, names)):
        last_layers[match["stack"]] = max(int(match["layer"]), last_layers.get(match["stack"], 0))

    def blocks_above(name: str) -> int:
        if match := _BLOCK.match(name):
            return last_layers[match["stack"]] - int(match["layer"])
        return 1 + max(last_layers.values(), default=-1) if _BELOW_BLOCKS.search(name) else 0

    return {name: layer_lr_decay ** blocks_above(name) for name in names}
