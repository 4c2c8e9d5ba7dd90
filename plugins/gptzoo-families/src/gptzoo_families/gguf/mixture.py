"""Families with mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gptzoo
from gptzoo import GgufArchitecture, GgufMetadata, InterleavedLlama
from gptzoo_families.gguf.pre_norm import Qwen3Gguf
from gptzoo_families.gguf.tables import BLOCK, EXPERTS, LAYER, NO_FFN, QK_NORMS, Json


class MixtralGguf(InterleavedLlama):
    """Mixtral, which llama.cpp knows as a Llama with experts."""

    name = "llama"
    reads_frequency_factors = True
    no_effect = frozenset({"expert_feed_forward_length"})
    unwritten = frozenset({"expert_feed_forward_length"})
    tensors = {
        **NO_FFN,
        f"{BLOCK}.ffn_gate_inp": f"{LAYER}.block_sparse_moe.gate",
        f"{BLOCK}.ffn_gate_exps": f"{LAYER}.block_sparse_moe.experts.{{expert}}.w1",
        f"{BLOCK}.ffn_down_exps": f"{LAYER}.block_sparse_moe.experts.{{expert}}.w2",
        f"{BLOCK}.ffn_up_exps": f"{LAYER}.block_sparse_moe.experts.{{expert}}.w3",
    }

    def matches(self, file: GgufMetadata) -> bool:
        return bool(file.count("expert_count", None))

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        for unsupported in ("attention_bias", "mlp_bias"):
            del settings[unsupported]
        return {
            **settings,
            "num_local_experts": file.n_experts(),
            "num_experts_per_tok": file.required_count("expert_used_count"),
            "sliding_window": None,
        }


class Qwen3MoeGguf(Qwen3Gguf):
    """Qwen3-MoE with experts in all layers, whose weights sum to 1."""

    name = "qwen3moe"
    tensors = {**NO_FFN, **QK_NORMS, **EXPERTS}

    def settings(self, file: GgufMetadata) -> Json:
        n_active = file.required_count("expert_used_count")
        settings = super().settings(file)
        return {
            **settings,
            "moe_intermediate_size": file.count(
                "expert_feed_forward_length", settings["intermediate_size"] // n_active
            ),
            "num_experts": file.n_experts(),
            "num_experts_per_tok": n_active,
            "norm_topk_prob": True,
        }


class OlmoeGguf(GgufArchitecture):
    """OLMoE, whose experts' weights are not normalised."""

    name = "olmoe"
    tensors = {**NO_FFN, **QK_NORMS, **EXPERTS}
    has_own_d_head = False
    needs_output = True
    no_effect = frozenset({"expert_feed_forward_length"})
    unwritten = frozenset({"expert_feed_forward_length"})

    def settings(self, file: GgufMetadata) -> Json:
        return {
            **super().settings(file),
            "num_experts": file.n_experts(),
            "num_experts_per_tok": file.required_count("expert_used_count"),
            "norm_topk_prob": False,
            "clip_qkv": None,
        }

    def limits(self, spec: gptzoo.ModelSpec) -> Iterator[str]:
        yield from super().limits(spec)
        attention: Any = spec.per_layer("attention")[0]
        if attention.n_kv_heads != spec.n_heads:
            yield "the norm of keys is as wide as the model, so there must be as many key heads as query heads"
