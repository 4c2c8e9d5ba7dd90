"""Families whose blocks may be parallel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gptzoo
from gptzoo import GgufArchitecture, GgufMetadata
from gptzoo_families.gguf.tables import BLOCK, LAYER, LAYER_NORM, LLAMA, NO_GATE, QK_NORMS, Json, without


class StableLmGguf(GgufArchitecture):
    """StableLM."""

    name = "stablelm"
    tensors = {
        **LLAMA,
        **{f"{BLOCK}.attn_{name}_norm": f"{LAYER}.self_attn.{name}_layernorm.norms.{{head}}" for name in "qk"},
    }
    eps = LAYER_NORM
    rotates_parts = True
    has_own_d_head = False
    needs_output = True

    def settings(self, file: GgufMetadata) -> Json:
        return {
            **super().settings(file),
            "use_qkv_bias": file.has("blk.0.attn_q.bias"),
            "use_parallel_residual": not file.has("blk.0.ffn_norm.weight"),
            "qk_layernorm": file.has("blk.0.attn_q_norm.weight"),
        }


class PhiGguf(GgufArchitecture):
    """Phi-1, Phi-1.5 and Phi-2."""

    name = "phi2"
    tensors = {
        **without(NO_GATE, ".ffn_norm"),
        "output_norm": "model.final_layernorm",
        f"{BLOCK}.attn_output": f"{LAYER}.self_attn.dense",
        f"{BLOCK}.ffn_up": f"{LAYER}.mlp.fc1",
        f"{BLOCK}.ffn_down": f"{LAYER}.mlp.fc2",
    }
    eps = LAYER_NORM
    rotates_parts = True
    has_own_d_head = False
    needs_output = True


EXACT_GELU = "llama.cpp computes the exact GELU of this family by its tanh approximation"


class GPTNeoXGguf(GgufArchitecture):
    """GPT-NeoX and Pythia."""

    name = "gptneox"
    notes = (EXACT_GELU,)
    tensors = {
        "token_embd": "gpt_neox.embed_in",
        "output_norm": "gpt_neox.final_layer_norm",
        "output": "embed_out",
        f"{BLOCK}.attn_norm": "gpt_neox.layers.{layer}.input_layernorm",
        f"{BLOCK}.ffn_norm": "gpt_neox.layers.{layer}.post_attention_layernorm",
        f"{BLOCK}.attn_qkv": "gpt_neox.layers.{layer}.attention.query_key_value",
        f"{BLOCK}.attn_output": "gpt_neox.layers.{layer}.attention.dense",
        f"{BLOCK}.ffn_up": "gpt_neox.layers.{layer}.mlp.dense_h_to_4h",
        f"{BLOCK}.ffn_down": "gpt_neox.layers.{layer}.mlp.dense_4h_to_h",
    }
    layouts = {"attn_qkv": "grouped"}
    eps = LAYER_NORM
    rotates_parts = True
    has_own_d_head = False
    needs_output = True

    def settings(self, file: GgufMetadata) -> Json:
        return {
            **super().settings(file),
            "use_parallel_residual": file.flag("use_parallel_residual", True),
            "attention_bias": file.has("blk.0.attn_qkv.bias"),
        }

    def metadata(self, spec: gptzoo.ModelSpec) -> Json:
        return {**super().metadata(spec), "use_parallel_residual": spec.norm.type == "parallel"}

    def limits(self, spec: gptzoo.ModelSpec) -> Iterator[str]:
        yield from super().limits(spec)
        attention: Any = spec.per_layer("attention")[0]
        if not attention.qkv_bias:
            yield "attention must have biases"


class FalconGguf(GgufArchitecture):
    """Falcon with rotary positions and parallel blocks."""

    name = "falcon"
    notes = (EXACT_GELU,)
    tensors = {
        "token_embd": "transformer.word_embeddings",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
        f"{BLOCK}.attn_norm": "transformer.h.{layer}.ln_mlp",
        f"{BLOCK}.attn_norm_2": "transformer.h.{layer}.ln_attn",
        f"{BLOCK}.attn_qkv": "transformer.h.{layer}.self_attention.query_key_value",
        f"{BLOCK}.attn_output": "transformer.h.{layer}.self_attention.dense",
        f"{BLOCK}.ffn_up": "transformer.h.{layer}.mlp.dense_h_to_4h",
        f"{BLOCK}.ffn_down": "transformer.h.{layer}.mlp.dense_4h_to_h",
    }
    layouts = {"attn_qkv": "grouped"}
    eps = ("layer_norm_epsilon", "attention.layer_norm_epsilon")
    has_own_d_head = False

    def matches(self, file: GgufMetadata) -> bool:
        return file.has("blk.0.attn_norm_2.weight")

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        n_kv_heads = settings.pop("num_key_value_heads")
        settings["ffn_hidden_size"] = settings.pop("intermediate_size")
        return {**settings, "num_kv_heads": n_kv_heads, "new_decoder_architecture": True}


class Falcon7BGguf(FalconGguf):
    """Falcon with one norm for each block and one key head, or as many as query heads."""

    tensors = {
        **without(FalconGguf.tensors, ".attn_norm_2"),
        f"{BLOCK}.attn_norm": "transformer.h.{layer}.input_layernorm",
    }

    def matches(self, file: GgufMetadata) -> bool:
        return not super().matches(file)

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        n_kv_heads, n_heads = settings.pop("num_kv_heads"), settings["num_attention_heads"]
        if n_kv_heads not in (1, n_heads):
            file.reject(
                "attention.head_count_kv", hint=f"; only 1 or {n_heads} is supported with one norm for each block"
            )
        return {**settings, "new_decoder_architecture": False, "multi_query": n_kv_heads == 1, "parallel_attn": True}


class CohereGguf(GgufArchitecture):
    """Cohere's Command R. The output matrix is the embedding. Models of 64 and more layers have query and key norms."""

    name = "command-r"
    tensors = {
        **without(LLAMA, ".ffn_norm"),
        **QK_NORMS,
    }
    eps = LAYER_NORM

    def settings(self, file: GgufMetadata) -> Json:
        return {
            **super().settings(file),
            "logit_scale": file.required_number("logit_scale"),
            "attention_bias": file.has("blk.0.attn_q.bias"),
            "use_qk_norm": file.has("blk.0.attn_q_norm.weight"),
        }

    def metadata(self, spec: gptzoo.ModelSpec) -> Json:
        none = {"rope.scaling.type": "none", "logit_scale": spec.architecture.logit_scale}
        return {**none, **super().metadata(spec)}

    def limits(self, spec: gptzoo.ModelSpec) -> Iterator[str]:
        yield from super().limits(spec)
        attention: Any = spec.per_layer("attention")[0]
        if (attention.qk_norm is not None) != (spec.n_layers >= 64):
            yield "query and key norms must be in models of 64 and more layers, and in no others"
