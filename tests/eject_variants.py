"""Changes to a small spec: every registered part, the main options of the parts, and pairs drawn with a seed."""

from __future__ import annotations

import random
from typing import Any

import gptzoo
from gptzoo.spec.files import load_model_spec

BASE: dict[str, Any] = {
    "vocab_size": 97,
    "context_length": 64,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "positional": "rope",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"},
    "activation": "silu",
    "ffn": "glu",
    "bias": False,
}
KINDS = ("attention", "positional", "norm", "norm_layer", "activation", "ffn", "rope_scaling")
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "attention:naive": ({"softcap": 3.0}, {"sinks": True}),
    "attention:sdpa": (
        {"n_kv_heads": 2, "window": 5},
        {"qk_norm": "rmsnorm"},
        {"qk_norm": "layernorm", "qk_norm_over": "heads"},
        {"scale": 0.3, "clip": 0.5},
        {"gate": True, "qkv_bias": True, "out_bias": True},
        {"dropout": 0.2, "out_dropout": 0.1},
    ),
    "attention:flex": ({"softcap": 5.0, "window": 6},),
    "attention:block_sparse": ({"block_size": 4, "n_local": 1, "stride": 3},),
    "attention:mla": ({"q_rank": 12, "kv_rank": 8, "rope_dim": 4, "v_dim": 6}, {"norm": "layernorm", "scale": 0.2}),
    "attention:infini": ({"segment_length": 8, "update": "delta"},),
    "attention:gated_delta": ({"conv_size": 2, "n_key_heads": 2, "n_value_heads": 4},),
    "positional:rope": ({"theta": 500.0, "fraction": 0.5},),
    "positional:t5": ({"n_buckets": 8, "max_distance": 16},),
    "positional:fire": ({"d_hidden": 8, "threshold": 16.0},),
    "positional:alibi": ({"scale": 2.0},),
    "positional:xpos": ({"scale_base": 64.0},),
    "norm:pre_ln": ({"residual_scale": 0.5}, {"embedding_norm": True}, {"layer": {"type": "rmsnorm", "weight": False}}),
    "norm:parallel": ({"shared": False},),
    "norm_layer:layernorm": ({"bias": True}, {"weight": False}),
    "activation:gelu": ({"approximate": "tanh"},),
    "ffn:mlp": ({"multiplier": 2.0, "bias": True, "dropout": 0.2}, {"activation": "relu", "d_ff": 40}),
    "ffn:glu": ({"limit": 2.0, "shift": 1.0},),
    "ffn:moe": (
        {"n_experts": 4, "n_shared": 1, "shared_gate": True, "expert": "glu"},
        {"n_experts": 4, "scores": "sigmoid", "balance": "bias", "scale": 2.0},
        {"n_experts": 8, "n_groups": 4, "n_active_groups": 2, "group_score": "top2", "router_bias": True},
        {"n_experts": 4, "n_active": 1, "normalise": False, "balance": None},
    ),
    "rope_scaling:yarn": ({"beta_fast": 16.0, "attention_factor": 1.2, "original_context_length": 16},),
    "rope_scaling:llama3": ({"low_freq_factor": 1.0, "high_freq_factor": 8.0, "original_context_length": 16},),
}
"""Options besides the defaults, by part. Parts of plugins that are not installed are left out."""


def change(part: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the change of the spec that selects a part with options."""
    kind, name = part.split(":")
    chosen = {"type": name, **(options or {})}
    match kind:
        case "norm_layer":
            return {"norm": {"type": "pre_ln", "layer": chosen}}
        case "rope_scaling":
            return {"positional": {"type": "rope", "fraction": 0.5, "scaling": {"factor": 4.0, **chosen}}}
    return {kind: chosen}


def spec_of(*changes: dict[str, Any]) -> gptzoo.ModelSpec:
    """Return a small spec with changes, without positions where the parts accept no rotation."""
    merged = {key: value for each in changes for key, value in each.items()}
    try:
        return load_model_spec({**BASE, **merged})
    except gptzoo.SpecError:
        if "positional" in merged:
            raise
        return load_model_spec({**BASE, **merged, "positional": "none"})


PARTS = [f"{kind}:{name}" for kind in KINDS for name in gptzoo.registered(kind)]
VARIANTS: dict[str, dict[str, Any]] = {part: change(part) for part in PARTS}
VARIANTS |= {f"{part} {options}": change(part, options) for part in PARTS for options in OPTIONS.get(part, ())}
VARIANTS |= {
    "architecture:decoder with scales": {
        "architecture": {"type": "decoder", "embed_scale": 2.0, "logit_scale": 0.5, "logit_softcap": 5.0},
        "tie_embeddings": True,
    },
    "architecture:decoder with a bias": {
        "architecture": {"type": "decoder", "head_bias": True, "embed_dropout": 0.1},
        "tie_embeddings": False,
    },
    "attention per layer": {"attention": [{"type": "sdpa", "window": 4}, "naive"]},
    "ffn per layer": {"ffn": ["glu", {"type": "mlp", "d_ff": 24}]},
    "positional per layer": {"positional": ["none", "rope"]},
}


def pairs(count: int, seed: int) -> dict[str, gptzoo.ModelSpec]:
    """Return specs with two changes of different kinds, drawn with a seed. Pairs that no spec allows are left out."""
    draw = random.Random(seed)
    drawn: dict[str, gptzoo.ModelSpec] = {}
    while len(drawn) < count:
        (first, one), (second, two) = draw.sample(sorted(VARIANTS.items(), key=lambda item: item[0]), 2)
        if one.keys() & two.keys():
            continue
        try:
            drawn[f"{first} + {second}"] = load_model_spec({**BASE, **one, **two})
        except gptzoo.SpecError:
            continue
    return drawn
