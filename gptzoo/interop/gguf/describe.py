"""The metadata of a GGUF file that follow from a spec, whatever its architecture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gptzoo.spec.model import ModelSpec

_EPS = {"layernorm": "attention.layer_norm_epsilon", "rmsnorm": "attention.layer_norm_rms_epsilon"}


def describe(spec: ModelSpec) -> dict[str, Any]:
    """Return metadata by their keys, without the architecture's name. Values that llama.cpp assumes are left out.

    The spec is one that an importer gives: its attention is `sdpa` and its frequencies belong to `rope`.
    """
    return dict(_describe(spec))


def _describe(spec: ModelSpec) -> Iterator[tuple[str, Any]]:
    attention: Any = spec.per_layer("attention")[0]
    layer: Any = spec.norm.layer
    yield "vocab_size", spec.vocab_size
    yield "context_length", spec.context_length
    yield "embedding_length", spec.d_model
    yield "block_count", spec.n_layers
    yield "attention.head_count", spec.n_heads
    yield "attention.head_count_kv", getattr(attention, "n_kv_heads", None) or spec.n_heads
    if spec.d_head is not None:
        yield "attention.key_length", spec.d_head
        yield "attention.value_length", spec.d_head
    if layer.type in _EPS:
        yield _EPS[layer.type], layer.eps
    yield from _ffn(spec)
    yield from _rope(spec)
    yield from _attention(spec)
    for key, value, neutral in (
        ("embedding_scale", spec.architecture.embed_scale, 1.0),
        ("logit_scale", spec.architecture.logit_scale, 1.0),
        ("final_logit_softcapping", spec.architecture.logit_softcap, None),
        ("residual_scale", getattr(spec.norm, "residual_scale", 1.0), 1.0),
    ):
        if value != neutral:
            yield key, value


def _ffn(spec: ModelSpec) -> Iterator[tuple[str, Any]]:
    ffn: Any = spec.per_layer("ffn")[0]
    if ffn.type != "moe":
        yield "feed_forward_length", ffn.hidden_width(spec.dims)
        return
    width = ffn.expert.hidden_width(spec.dims)
    yield "feed_forward_length", width
    yield "expert_feed_forward_length", width
    yield "expert_count", ffn.n_experts
    yield "expert_used_count", ffn.n_active
    if ffn.scale != 1.0:
        yield "expert_weights_scale", ffn.scale


def _rope(spec: ModelSpec) -> Iterator[tuple[str, Any]]:
    ropes: list[Any] = [positional for positional in spec.per_layer("positional") if positional.type == "rope"]
    if not ropes:
        return
    rope = ropes[-1]  # in families with two kinds of layers the last layer usually sees the whole context
    yield "rope.freq_base", rope.theta
    yield "rope.dimension_count", max(int(spec.dims.d_head * rope.fraction) // 2 * 2, 2)
    scaling = rope.scaling
    if scaling is None or scaling.type == "llama3":  # a tensor
        return
    yield "rope.scaling.type", scaling.type
    yield "rope.scaling.factor", scaling.factor
    if scaling.type == "yarn":
        yield "rope.scaling.original_context_length", scaling.original_context_length
        yield "rope.scaling.yarn_beta_fast", scaling.beta_fast
        yield "rope.scaling.yarn_beta_slow", scaling.beta_slow
        if scaling.attention_factor is not None:  # llama.cpp multiplies YaRN's own factor by this one
            yield "rope.scaling.attn_factor", scaling.attention_factor / (0.1 * math.log(scaling.factor) + 1)


def _attention(spec: ModelSpec) -> Iterator[tuple[str, Any]]:
    layers: list[Any] = spec.per_layer("attention")
    attention = layers[0]
    for key, option in (
        ("attention.scale", "scale"),
        ("attention.clamp_kqv", "clip"),
        ("attn_logit_softcapping", "softcap"),
    ):
        if (value := getattr(attention, option, None)) is not None:
            yield key, value
    windows = [getattr(layer, "window", None) for layer in layers]
    if any(windows):
        yield "attention.sliding_window", next(window for window in windows if window is not None)
        if not all(windows):
            yield "attention.sliding_window_pattern", [window is not None for window in windows]
