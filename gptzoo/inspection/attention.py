"""Attention maps: how much each token looks at each, in every layer and head that has scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.components.attention import Attention
from gptzoo.errors import InputError
from gptzoo.inspection.capture import captured
from gptzoo.inspection.labels import labels_of
from gptzoo.sampling.text import tokenizer_of


@dataclass(frozen=True)
class AttentionMap:
    """The maps of one sublayer."""

    path: str  # in the module tree, such as blocks.0.attention
    type: str  # of the component, such as sdpa
    heads: tuple[int, ...]  # the numbers of those that are here
    weights: Tensor  # (H, T, S) float32: of query t, how much it looks at the token at position s


@dataclass(frozen=True)
class AttentionMaps:
    """The maps of a text."""

    tokens: tuple[str, ...]  # what each stands for, fit to be shown
    maps: tuple[AttentionMap, ...]  # in the order of the layers
    silent: tuple[str, ...]  # sublayers that mix positions and show no map

    def selected(self, layers: Sequence[int] = (), heads: Sequence[int] = ()) -> AttentionMaps:
        """Those of some layers and heads, counted from 0; none named is all. Raises InputError for one that is not."""
        n_heads = min(len(each.weights) for each in self.maps)
        for name, chosen, there in (("layer", layers, len(self.maps)), ("head", heads, n_heads)):
            if wrong := [number for number in chosen if not 0 <= number < there]:
                raise InputError(f"there is no map of {name} {wrong[0]}, only 0 to {there - 1}")
        maps = [self.maps[layer] for layer in layers] if layers else self.maps
        kept = [
            AttentionMap(each.path, each.type, tuple(heads), each.weights[list(heads)]) if heads else each
            for each in maps
        ]
        return AttentionMaps(self.tokens, tuple(kept), self.silent)


def attention_maps(loaded: Loaded, ids: Sequence[int]) -> AttentionMaps:
    """The maps of a text of ids, from what sublayers capture when they are asked for "attention".

    A sublayer of any package takes part if it emits `attention` (B, H, T, S) and `k_pos` (B|1, S), as
    `gptzoo check` has it. Raises InputError where none does.
    """
    seen = captured(loaded.model, ids, "attention")
    modules = dict(loaded.model.named_modules())
    paths = [name.removesuffix(".attention") for name in seen if name.endswith(".attention")]
    paths = [path for path in paths if f"{path}.k_pos" in seen]
    maps = []
    for path in paths:
        weights = _by_position(seen, path)
        maps.append(AttentionMap(path, modules[path].config.type, tuple(range(len(weights))), weights))
    mixing = [path for path, module in modules.items() if isinstance(module, Attention)]
    silent = [f"{path} ({modules[path].config.type})" for path in mixing if path not in paths]
    if not maps:
        raise InputError(f"no layer has attention scores to show: {', '.join(silent)}")
    return AttentionMaps(labels_of(tokenizer_of(loaded), ids), tuple(maps), tuple(silent))


def _by_position(seen: Mapping[str, Tensor], path: str) -> Tensor:
    """The captured weights, (H, T, S) by the position of the key, on the CPU."""
    weights, k_pos = seen[f"{path}.attention"][0].float().cpu(), seen[f"{path}.k_pos"][0].cpu()
    n_positions = int(k_pos.max()) + 1
    slot = torch.where(k_pos >= 0, k_pos, n_positions).expand(weights.shape)
    return weights.new_zeros(*weights.shape[:2], n_positions + 1).scatter_add(-1, slot, weights)[..., :n_positions]
