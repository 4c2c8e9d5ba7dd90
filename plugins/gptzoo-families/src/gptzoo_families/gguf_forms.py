"""Descriptions of the GGUF files of the families, for `gptzoo import-gguf` and `gptzoo export-gguf`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gptzoo
from gptzoo import GgufArchitecture, GgufMetadata, InterleavedLlama

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


def without(tensors: dict[str, str], *parts: str) -> dict[str, str]:
    """Return the tensors of a table without those whose names end with one of `parts`."""
    return {gguf: name for gguf, name in tensors.items() if not gguf.endswith(parts)}


BARE = without(dict(LLAMA), ".ffn_norm", ".attn_norm")
NO_GATE = without(dict(LLAMA), ".ffn_gate")
NO_FFN = without(dict(LLAMA), ".ffn_gate", ".ffn_up", ".ffn_down")


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


class OlmoGguf(InterleavedLlama):
    """OLMo."""

    name = "olmo"
    tensors = without(BARE, "output_norm")

    eps = LAYER_NORM

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        file.require("attention.layer_norm_epsilon", 1e-5)
        for unsupported in ("mlp_bias", "layer_norm_eps"):
            settings.pop(unsupported, None)
        return {**settings, "clip_qkv": file.number("attention.clamp_kqv", None)}


class Olmo2Gguf(GgufArchitecture):
    """OLMo 2."""

    name = "olmo2"
    tensors = {**BARE, **QK_NORMS, **POST_NORMS}
    has_own_d_head = False
    needs_output = True

    def matches(self, file: GgufMetadata) -> bool:
        return not file.count("attention.sliding_window", None)


class Olmo3Gguf(Olmo2Gguf):
    """OLMo 3, which llama.cpp knows as an OLMo 2 with a sliding window."""

    def matches(self, file: GgufMetadata) -> bool:
        return not super().matches(file)

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        theta = settings.pop("rope_theta")
        full = {"rope_theta": theta, **(settings.pop("rope_scaling", None) or {"rope_type": "default"})}
        return {
            **settings,
            "rope_parameters": {FULL: full, SLIDING: {"rope_type": "default", "rope_theta": theta}},
            "sliding_window": file.required_count("attention.sliding_window"),
            "layer_types": read_layer_types(file, settings["num_hidden_layers"], period=4),
        }


def read_layer_types(file: GgufMetadata, n_layers: int, period: int) -> list[str]:
    """Return the types of layers. `period`: llama.cpp's default, of which the last layer sees the whole context."""
    pattern = file.value("attention.sliding_window_pattern", period)
    if isinstance(pattern, list) and len(pattern) == n_layers:
        return [SLIDING if slides else FULL for slides in pattern]
    if type(pattern) is not int or pattern < 1:
        file.reject("attention.sliding_window_pattern", hint=f"; expected a period or {n_layers} flags")
        return [FULL] * n_layers
    return [FULL if (layer + 1) % pattern == 0 else SLIDING for layer in range(n_layers)]


class GemmaGguf(GgufArchitecture):
    """Gemma. The output matrix is the embedding."""

    name = "gemma"
    layouts = {"attn_norm": "plus_one", "ffn_norm": "plus_one", "output_norm": "plus_one"}
    unwritten = frozenset({"embedding_scale"})


class Gemma2Gguf(GgufArchitecture):
    """Gemma 2. The scale of attention scores is built into llama.cpp."""

    name = "gemma2"
    tensors = {**LLAMA, **POST_NORMS, f"{BLOCK}.ffn_norm": f"{LAYER}.pre_feedforward_layernorm"}
    layouts = dict.fromkeys(
        ("attn_norm", "ffn_norm", "output_norm", "post_attention_norm", "post_ffw_norm", "attn_q_norm", "attn_k_norm"),
        "plus_one",
    )
    unwritten = frozenset({"embedding_scale", "attention.scale"})
    n_layers_27b = 46
    """Number of layers of the 27B model, whose scores have another scale."""

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        n_layers = settings["num_hidden_layers"]
        is_27b = n_layers == self.n_layers_27b
        width = settings["hidden_size"] // settings["num_attention_heads"] if is_27b else settings["head_dim"]
        return {**settings, "query_pre_attn_scalar": width, **self.read_windows(file, n_layers), **self.read_caps(file)}

    def read_windows(self, file: GgufMetadata, n_layers: int) -> Json:
        """Return the settings of sliding windows."""
        return {
            "sliding_window": file.count("attention.sliding_window", 4096),
            "layer_types": read_layer_types(file, n_layers, period=2),
        }

    def read_caps(self, file: GgufMetadata) -> Json:
        """Return the settings of soft caps."""
        return {
            "attn_logit_softcapping": file.number("attn_logit_softcapping", 50.0),
            "final_logit_softcapping": file.number("final_logit_softcapping", 30.0),
        }


class Gemma3Gguf(Gemma2Gguf):
    """Gemma 3 (text)."""

    name = "gemma3"
    tensors = {**Gemma2Gguf.tensors, **QK_NORMS}
    n_layers_27b = 62

    def settings(self, file: GgufMetadata) -> Json:
        settings = super().settings(file)
        theta = settings.pop("rope_theta")
        full = {"rope_theta": theta, **(settings.pop("rope_scaling", None) or {"rope_type": "default"})}
        local = {"rope_type": "default", "rope_theta": file.number("rope.freq_base_swa", 10000.0)}
        return {**settings, "rope_parameters": {FULL: full, SLIDING: local}}

    def read_windows(self, file: GgufMetadata, n_layers: int) -> Json:
        return {
            "sliding_window": file.count("attention.sliding_window", 4096),
            "layer_types": read_layer_types(file, n_layers, period=6),
        }

    def read_caps(self, file: GgufMetadata) -> Json:
        return {"final_logit_softcapping": file.number("final_logit_softcapping", None)}


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


class GPTNeoXGguf(GgufArchitecture):
    """GPT-NeoX and Pythia."""

    name = "gptneox"
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


class CohereGguf(GgufArchitecture):
    """Cohere's Command R. The output matrix is the embedding. Models of 64 and more layers have query and key norms."""

    name = "command-r"
    tensors = {
        **without(dict(LLAMA), ".ffn_norm"),
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


class SmolLM3Gguf(InterleavedLlama):
    """SmolLM3. Every fourth layer has no position encoding."""

    name = "smollm3"
    has_attention_bias = False


class Glm4Gguf(GgufArchitecture):
    """GLM-4 (0414)."""

    name = "glm4"
    tensors = {
        **NO_GATE,
        f"{BLOCK}.ffn_up": f"{LAYER}.mlp.gate_up_proj",
        f"{BLOCK}.post_attention_norm": f"{LAYER}.post_self_attn_layernorm",
        f"{BLOCK}.post_ffw_norm": f"{LAYER}.post_mlp_layernorm",
    }
    rotates_parts = True

    def settings(self, file: GgufMetadata) -> Json:
        return {**super().settings(file), "attention_bias": file.has("blk.0.attn_q.bias")}
