"""Which parameters get which learning rate and weight decay, by their names and shapes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

_BLOCK = re.compile(r"(?P<stack>(?:.*?\.)?)blocks\.(?P<layer>\d+)\.")
_BELOW_THE_BLOCKS = re.compile(r"(?:^|\.)(?:embed[^.]*|positionals|entry)(?:\.|$)")


def layer_of(name: str) -> int | None:
    """The block (0-based, of its stack) that a parameter is in; None outside of blocks."""
    found = _BLOCK.match(name)
    return None if found is None else int(found["layer"])


def decay_groups(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (biases and the scales of norms) do not."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def lr_groups(
    parameters: Mapping[str, nn.Parameter], lr: float, weight_decay: float, scales: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The decay groups, apart for each of the `scales` on `lr`; the highest comes first, for it is the one shown."""
    groups = []
    for scale in sorted({scales[name] for name in parameters}, reverse=True):
        alike = {name: parameter for name, parameter in parameters.items() if scales[name] == scale}
        groups += [{**group, "lr": lr * scale} for group in decay_groups(alike, weight_decay)]
    return groups


def lr_scales(names: Iterable[str], layer_lr_decay: float) -> dict[str, float]:
    """For each parameter the factor on its learning rate: `layer_lr_decay` once per block between it and the head.

    The last block of each stack and all that comes after it (final norm, head) have 1; what comes before the first
    block (embeddings, positions) is one below it. An encoder is a stack of its own, as deep as it is.
    """
    names = list(names)
    tops: dict[str, int] = {}  # the last block of each stack
    for found in filter(None, map(_BLOCK.match, names)):
        tops[found["stack"]] = max(int(found["layer"]), tops.get(found["stack"], 0))

    def blocks_above(name: str) -> int:
        if found := _BLOCK.match(name):
            return tops[found["stack"]] - int(found["layer"])
        return 1 + max(tops.values(), default=-1) if _BELOW_THE_BLOCKS.search(name) else 0

    return {name: layer_lr_decay ** blocks_above(name) for name in names}
