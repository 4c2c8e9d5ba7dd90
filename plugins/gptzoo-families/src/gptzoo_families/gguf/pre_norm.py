"""Families with pre-norm blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gptzoo
from gptzoo import GgufArchitecture, GgufMetadata, InterleavedLlama
from gptzoo_families.gguf.tables import BLOCK, LAYER, LLAMA, NO_GATE, QK_NORMS, Json, without


class Qwen2Gguf(GgufArchitecture):
    """Qwen2 and Qwen2.5."""

    name = "qwen2"

    def settings(self, file: GgufMetadata) -> Json:
        return {**super().settings(file), "use_sliding_window": False}


class Qwen3Gguf(Qwen2Gguf):
    """Qwen3."""

    name = "qwen3"
    has_attention_bias = False
    tensors = {**LLAMA, **QK_NORMS}

    def settings(self, file: GgufMetadata) -> Json:
        return {**super().settings(file), "attention_bias": False}


class StarCoder2Gguf(GgufArchitecture):
    """StarCoder2."""

    name = "starcoder2"
    tensors = {
        **NO_GATE,
        f"{BLOCK}.ffn_up": f"{LAYER}.mlp.c_fc",
        f"{BLOCK}.ffn_down": f"{LAYER}.mlp.c_proj",
    }
    eps = ("norm_epsilon", "attention.layer_norm_epsilon")
    has_own_d_head = False

    def settings(self, file: GgufMetadata) -> Json:
        return {**super().settings(file), "use_bias": file.has("blk.0.attn_q.bias"), "sliding_window": None}

    def limits(self, spec: gptzoo.ModelSpec) -> Iterator[str]:
        yield from super().limits(spec)
        attention: Any = spec.per_layer("attention")[0]
        if not attention.qkv_bias:
            yield "linear layers must have biases"


class Phi3Gguf(GgufArchitecture):
    """Phi-3 and Phi-4. llama.cpp ignores the sliding window."""

    name = "phi3"
    tensors = {
        **without(NO_GATE, ".attn_q", ".attn_k", ".attn_v"),
        f"{BLOCK}.attn_qkv": f"{LAYER}.self_attn.qkv_proj",
        f"{BLOCK}.ffn_up": f"{LAYER}.mlp.gate_up_proj",
    }
    rotates_parts = True
    has_own_d_head = False

    def settings(self, file: GgufMetadata) -> Json:
        return {**super().settings(file), "sliding_window": file.value("attention.sliding_window", None) or None}

    def metadata(self, spec: gptzoo.ModelSpec) -> Json:
        return {"attention.sliding_window": 0, "rope.scaling.original_context_length": spec.context_length} | (
            super().metadata(spec)
        )

    def limits(self, spec: gptzoo.ModelSpec) -> Iterator[str]:
        yield from super().limits(spec)
        if any(getattr(attention, "window", None) for attention in spec.per_layer("attention")):
            yield "a sliding window"


class GraniteGguf(InterleavedLlama):
    """Granite. Its logit scale divides."""

    name = "granite"
    reads_frequency_factors = True

    def settings(self, file: GgufMetadata) -> Json:
        d_head = file.required_count("embedding_length") // file.required_count("attention.head_count")
        return {
            **super().settings(file),
            "attention_multiplier": file.number("attention.scale", d_head**-0.5),
            "embedding_multiplier": file.number("embedding_scale", 1.0),
            "residual_multiplier": file.number("residual_scale", 1.0),
            "logits_scaling": file.required_number("logit_scale"),
        }

    def metadata(self, spec: gptzoo.ModelSpec) -> Json:
        return {**super().metadata(spec), "logit_scale": 1 / spec.architecture.logit_scale}


class SmolLM3Gguf(InterleavedLlama):
    """SmolLM3. Every fourth layer has no position encoding."""

    name = "smollm3"
    has_attention_bias = False


class GlmGguf(GgufArchitecture):
    """GLM-4 (9B)."""

    name = "chatglm"
    tensors = {**NO_GATE, f"{BLOCK}.ffn_up": f"{LAYER}.mlp.gate_up_proj"}
    rotates_parts = True
    needs_output = True

    def settings(self, file: GgufMetadata) -> Json:
        return {**super().settings(file), "attention_bias": file.has("blk.0.attn_q.bias")}


class Glm4Gguf(GlmGguf):
    """GLM-4 (0414)."""

    name = "glm4"
    tensors = {
        **GlmGguf.tensors,
        f"{BLOCK}.post_attention_norm": f"{LAYER}.post_self_attn_layernorm",
        f"{BLOCK}.post_ffw_norm": f"{LAYER}.post_mlp_layernorm",
    }
    needs_output = False


class BloomGguf(GgufArchitecture):
    """BLOOM."""

    name = "bloom"
    tensors = {
        "token_embd": "transformer.word_embeddings",
        "token_embd_norm": "transformer.word_embeddings_layernorm",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        f"{BLOCK}.attn_norm": "transformer.h.{layer}.input_layernorm",
        f"{BLOCK}.ffn_norm": "transformer.h.{layer}.post_attention_layernorm",
        f"{BLOCK}.attn_qkv": "transformer.h.{layer}.self_attention.query_key_value",
        f"{BLOCK}.attn_output": "transformer.h.{layer}.self_attention.dense",
        f"{BLOCK}.ffn_up": "transformer.h.{layer}.mlp.dense_h_to_4h",
        f"{BLOCK}.ffn_down": "transformer.h.{layer}.mlp.dense_4h_to_h",
    }
    layouts = {"attn_qkv": "grouped"}
    has_own_d_head = False

    def settings(self, file: GgufMetadata) -> Json:
        d_model, n_heads = file.required_count("embedding_length"), file.required_count("attention.head_count")
        file.require("attention.head_count_kv", n_heads)
        file.require("feed_forward_length", 4 * d_model)
        file.required_count("context_length")
        return {
            "vocab_size": file.rows("token_embd.weight"),
            "hidden_size": d_model,
            "n_layer": file.n_layers(),
            "n_head": n_heads,
            "layer_norm_epsilon": file.required_number("attention.layer_norm_epsilon"),
            "tie_word_embeddings": not file.has("output.weight"),
        }
