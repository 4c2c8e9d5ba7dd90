"""Names of tensors and types of layers that several families share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gptzoo import GgufArchitecture, GgufMetadata

Json = dict[str, Any]

LAYER, BLOCK = "model.layers.{layer}", "blk.{layer}"
LAYER_NORM = ("layer_norm_eps", "attention.layer_norm_epsilon")
SLIDING, FULL = "sliding_attention", "full_attention"

LLAMA = GgufArchitecture.tensors
QK_NORMS = {f"{BLOCK}.attn_{name}_norm": f"{LAYER}.self_attn.{name}_norm" for name in "qk"}
EXPERTS = {
    f"{BLOCK}.ffn_gate_inp": f"{LAYER}.mlp.gate",
    **{f"{BLOCK}.ffn_{name}_exps": f"{LAYER}.mlp.experts.{{expert}}.{name}_proj" for name in ("gate", "up", "down")},
}
POST_NORMS = {
    f"{BLOCK}.post_attention_norm": f"{LAYER}.post_attention_layernorm",
    f"{BLOCK}.post_ffw_norm": f"{LAYER}.post_feedforward_layernorm",
}


def without(tensors: Mapping[str, str], *parts: str) -> dict[str, str]:
    """Return the tensors of a table without those whose names end with one of `parts`."""
    return {gguf: name for gguf, name in tensors.items() if not gguf.endswith(parts)}


BARE = without(LLAMA, ".ffn_norm", ".attn_norm")
NO_GATE = without(LLAMA, ".ffn_gate")
NO_FFN = without(LLAMA, ".ffn_gate", ".ffn_up", ".ffn_down")


def read_layer_types(file: GgufMetadata, n_layers: int, period: int) -> list[str]:
    """Return the types of layers. `period`: llama.cpp's default, of which the last layer sees the whole context."""
    pattern = file.value("attention.sliding_window_pattern", period)
    if isinstance(pattern, list) and len(pattern) == n_layers:
        return [SLIDING if slides else FULL for slides in pattern]
    if type(pattern) is not int or pattern < 1:
        file.reject("attention.sliding_window_pattern", hint=f"; expected a period or {n_layers} flags")
        return [FULL] * n_layers
    return [FULL if (layer + 1) % pattern == 0 else SLIDING for layer in range(n_layers)]
