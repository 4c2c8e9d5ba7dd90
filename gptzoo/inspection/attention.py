"""Attention maps: the attention weights of every layer and head that computes scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.components.multi_head_attention import Attention
from gptzoo.errors import InputError, LogitsError
from gptzoo.inspection.capture import capture
from gptzoo.inspection.labels import token_labels
from gptzoo.sampling.text import tokenizer_of
from gptzoo.utils.bad_logits import CHECK_WEIGHTS


@dataclass(frozen=True)
class AttentionMap:
    """The attention weights of one sublayer."""

    path: str  # in the module tree, such as blocks.0.attention
    type: str  # name of the component, such as sdpa
    heads: tuple[int, ...]  # numbers of the heads in `weights`
    weights: Tensor  # (H, T, S) float32: the weight of query t on the token at position s


@dataclass(frozen=True)
class AttentionMaps:
    """The attention maps of a model for one sequence."""

    tokens: tuple[str, ...]  # printable labels
    maps: tuple[AttentionMap, ...]  # in the order of the layers
    without_map: tuple[str, ...]  # attention sublayers that compute no scores, such as linear attention

    def select(self, layers: Sequence[int] = (), heads: Sequence[int] = ()) -> AttentionMaps:
        """Return the maps of some layers and heads, counted from 0. An empty selection means all of them.

        Raises InputError for a number out of range.
        """
        n_heads = min(len(attention_map.weights) for attention_map in self.maps)
        for name, selected, n in (("layer", layers, len(self.maps)), ("head", heads, n_heads)):
            if out_of_range := [number for number in selected if not 0 <= number < n]:
                raise InputError(f"no attention map of {name} {out_of_range[0]}; give a number from 0 to {n - 1}")
        maps = [self.maps[layer] for layer in layers] if layers else self.maps
        selected_maps = [
            AttentionMap(m.path, m.type, tuple(heads), m.weights[list(heads)]) if heads else m for m in maps
        ]
        return AttentionMaps(self.tokens, tuple(selected_maps), self.without_map)


def attention_maps(loaded: LoadedModel, ids: Sequence[int]) -> AttentionMaps:
    """Run the model on one sequence of token ids and return its attention maps.

    A sublayer has a map if it captures `attention` (B, H, T, S) and `k_pos` (B|1, S); `gptzoo check` tests this.
    Raises InputError if no sublayer does, and LogitsError for weights that are not finite.
    """
    captures = capture(loaded.model, ids, "attention")
    modules = dict(loaded.model.named_modules())
    paths = [name.removesuffix(".attention") for name in captures if name.endswith(".attention")]
    paths = [path for path in paths if f"{path}.k_pos" in captures]
    maps = []
    for path in paths:
        weights = _weights_by_position(captures, path)
        if not bool(weights.isfinite().all()):
            position = int((~weights.isfinite()).any(dim=-1).any(dim=0).nonzero()[0])
            label = token_labels(tokenizer_of(loaded), ids)[position]
            raise LogitsError(
                f"the attention weights of {path} for token {position + 1} ({label!r}) are not finite. {CHECK_WEIGHTS}"
            )
        maps.append(AttentionMap(path, modules[path].config.type, tuple(range(len(weights))), weights))
    attentions = [path for path, module in modules.items() if isinstance(module, Attention)]
    without_map = [f"{path} ({modules[path].config.type})" for path in attentions if path not in paths]
    if not maps:
        raise InputError(f"no layer has attention scores: {', '.join(without_map)}")
    return AttentionMaps(token_labels(tokenizer_of(loaded), ids), tuple(maps), tuple(without_map))


def _weights_by_position(captures: Mapping[str, Tensor], path: str) -> Tensor:
    """Return the captured weights of a sublayer, (H, T, S), indexed by key position instead of cache slot."""
    weights, k_pos = captures[f"{path}.attention"][0].float().cpu(), captures[f"{path}.k_pos"][0].cpu()
    n_positions = int(k_pos.max()) + 1
    # Empty slots have a negative position: their weights go to an extra column, which is cut off.
    column = torch.where(k_pos >= 0, k_pos, n_positions).expand(weights.shape)
    return weights.new_zeros(*weights.shape[:2], n_positions + 1).scatter_add(-1, column, weights)[..., :n_positions]
