"""Families whose attention and feed-forward network may read the same residual stream in parallel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import gptzoo
from gptzoo import Settings
from gptzoo_families.gguf.parallel import CohereGguf, Falcon7BGguf, FalconGguf, GPTNeoXGguf, PhiGguf, StableLmGguf
from gptzoo_families.llama_like import (
    AttentionConfig,
    HeadNorms,
    Json,
    LlamaLike,
    StackedHeadNorms,
    set_mlp,
    set_residual_dropout,
)
from gptzoo_families.tensors import Conversion, ungroup_qkv

SHARED_NORM = {"layers.shared": "input_layernorm"}


class Phi(LlamaLike):
    """Phi-1, Phi-1.5 and Phi-2: parallel blocks with one norm, partial rotary positions and biases everywhere."""

    name = "phi"
    architecture = "PhiForCausalLM"
    gguf = (PhiGguf,)
    paper = "Li et al. 2023, Textbooks Are All You Need II: phi-1.5, arXiv:2309.05463"
    exit = "final_layernorm"
    out = "dense"
    qk_norms = ("q_layernorm", "k_layernorm")
    up = ("fc1",)
    down = "fc2"
    norms = SHARED_NORM
    partial_rotary = True
    defaults = {
        "vocab_size": 51200,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "layer_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(
            settings,
            bias=True,
            layer="layernorm",
            eps="layer_norm_eps",
            default_activation="gelu_new",
            fraction=0.5,
        )
        set_mlp(spec)
        spec["norm"]["type"] = "parallel"
        if settings.flag("qk_layernorm", False):
            spec["attention"]["qk_norm"] = dict(spec["norm"]["layer"])
        set_residual_dropout(spec, settings.number("resid_pdrop", 0.0))
        spec["architecture"] |= {"head_bias": True, "embed_dropout": settings.number("embd_pdrop", 0.0)}
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        attention: Any = spec.attention
        return {**super().settings(spec), "qk_layernorm": attention.qk_norm is not None}


class GPTNeoX(LlamaLike):
    """GPT-NeoX and Pythia: parallel blocks with two norms, and partial rotary positions."""

    name = "gpt_neox"
    architecture = "GPTNeoXForCausalLM"
    gguf = (GPTNeoXGguf,)
    paper = "Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745; Biderman et al. 2023, Pythia, arXiv:2304.01373"
    prefix = "gpt_neox."
    no_effect = LlamaLike.no_effect | {"classifier_dropout"}
    embed = "embed_in"
    head = "embed_out"
    exit = "final_layer_norm"
    attention = "attention"
    qkv = ("query_key_value",)
    out = "dense"
    up = ("dense_h_to_4h",)
    down = "dense_4h_to_h"
    partial_rotary = True
    defaults = {
        "vocab_size": 50432,
        "hidden_size": 6144,
        "intermediate_size": 24576,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "layer_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        base = settings.count("rotary_emb_base", None)  # the older name
        settings.set_defaults({"rope_theta": base} if base else {})
        spec = self.read_spec(
            settings,
            bias=settings.flag("attention_bias", True),
            layer="layernorm",
            eps="layer_norm_eps",
            default_activation="gelu",
            fraction=settings.number("rotary_pct", 0.25),
        )
        set_mlp(spec)
        if settings.flag("use_parallel_residual", True):
            spec["norm"] |= {"type": "parallel", "shared": False}
        dropout = settings.number("hidden_dropout", 0.0)
        set_residual_dropout(spec, dropout)
        spec["architecture"]["embed_dropout"] = dropout
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        return {
            **settings,
            "use_parallel_residual": spec.norm.type == "parallel",
            "rotary_pct": settings["partial_rotary_factor"],
        }

    def convert_qkv(self, spec: gptzoo.ModelSpec, config: AttentionConfig) -> Conversion:
        return ungroup_qkv(spec.n_heads, config.n_kv_heads, spec.dims.d_head)


class StableLm(HeadNorms):
    """StableLM: LayerNorm and partial rotary positions; some models have parallel blocks and norms for each head."""

    name = "stablelm"
    architecture = "StableLmForCausalLM"
    gguf = (StableLmGguf,)
    paper = "Bellagente et al. 2024, Stable LM 2 1.6B Technical Report, arXiv:2402.17834"
    qk_norms = ("q_layernorm", "k_layernorm")
    partial_rotary = True
    defaults = {
        "vocab_size": 50304,
        "hidden_size": 2560,
        "intermediate_size": 6912,
        "max_position_embeddings": 4096,
        "layer_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, bias=False, layer="layernorm", eps="layer_norm_eps", fraction=0.25)
        spec["norm"]["layer"]["bias"] = True
        if settings.flag("use_parallel_residual", False):
            spec["norm"]["type"] = "parallel"
        spec["attention"]["qkv_bias"] = settings.flag("use_qkv_bias", False)
        if settings.flag("qk_layernorm", False):
            norm = {**spec["norm"]["layer"], "bias": False}
            spec["attention"] |= {"qk_norm": norm, "qk_norm_over": "each_head"}
        spec["ffn"]["dropout"] = settings.number("hidden_dropout", 0.0)
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        attention, ffn = cast(Any, spec.attention), cast(Any, spec.ffn)
        return {
            **super().settings(spec),
            "use_parallel_residual": spec.norm.type == "parallel",
            "qk_layernorm": attention.qk_norm is not None,
            "hidden_dropout": ffn.dropout,
        }

    def block_norms(self, spec: gptzoo.ModelSpec) -> Mapping[str, str]:
        return SHARED_NORM if spec.norm.type == "parallel" else self.norms


class Cohere(StackedHeadNorms):
    """Cohere's Command R: parallel blocks with one norm, scaled logits and norms for each head."""

    name = "cohere"
    architecture = "CohereForCausalLM"
    gguf = (CohereGguf,)
    paper = "Cohere For AI 2024, C4AI Command R"
    norms = SHARED_NORM
    interleaved = True
    defaults = {
        "vocab_size": 256000,
        "hidden_size": 8192,
        "intermediate_size": 22528,
        "num_hidden_layers": 40,
        "num_attention_heads": 64,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
        "layer_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, tie=True, layer="layernorm", eps="layer_norm_eps")
        spec["norm"]["type"] = "parallel"
        if settings.flag("use_qk_norm", False):
            spec["attention"] |= {"qk_norm": dict(spec["norm"]["layer"]), "qk_norm_over": "each_head"}
        spec["architecture"]["logit_scale"] = settings.number("logit_scale", 0.0625)
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        attention: Any = spec.attention
        return {**super().settings(spec), "use_qk_norm": attention.qk_norm is not None}


class Falcon(LlamaLike):
    """Falcon: multi-query or grouped attention, parallel blocks, and rotary positions or ALiBi."""

    name = "falcon"
    architecture = "FalconForCausalLM"
    gguf = (Falcon7BGguf, FalconGguf)
    paper = "Almazrouei et al. 2023, The Falcon Series of Open Language Models, arXiv:2311.16867"
    prefix = "transformer."
    ignored = r"h\.\d+\.self_attention\.rotary_emb\.inv_freq"
    embed = "word_embeddings"
    exit = "ln_f"
    layers = "h"
    attention = "self_attention"
    qkv = ("query_key_value",)
    out = "dense"
    up = ("dense_h_to_4h",)
    down = "dense_4h_to_h"
    defaults = {
        "vocab_size": 65024,
        "hidden_size": 4544,
        "num_attention_heads": 71,
        "layer_norm_epsilon": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        is_new = settings.flag("new_decoder_architecture", False)
        is_multi_query = settings.flag("multi_query", True)
        n_kv_heads = settings.count("num_kv_heads", None)
        d_ff = settings.count("ffn_hidden_size", None)
        bias = settings.flag("bias", False)
        spec = self.read_spec(
            settings,
            bias=bias,
            tie=True,
            layer="layernorm",
            eps="layer_norm_epsilon",
            activation="activation",
            default_activation="gelu",
        )
        n_heads = spec["n_heads"]
        spec["attention"]["n_kv_heads"] = (n_kv_heads or n_heads) if is_new else 1 if is_multi_query else n_heads
        spec["ffn"]["d_ff"] = d_ff or 4 * spec["d_model"]
        set_mlp(spec, bias=bias)
        n_norms = settings.count("num_ln_in_parallel_attn", None) or (2 if is_new else 1)
        if settings.flag("parallel_attn", True) or is_new:
            spec["norm"] |= {"type": "parallel", "shared": n_norms == 1}
        if settings.flag("alibi", False):  # Falcon divides scores and biases by the same factor
            spec["positional"] = {"type": "alibi", "scale": (spec["d_model"] // n_heads) ** -0.5}
        dropout = settings.number("hidden_dropout", 0.0)
        set_residual_dropout(spec, dropout)
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        del settings["head_dim"]  # transformers computes it
        attention, norm = cast(Any, spec.attention), cast(Any, spec.norm)
        is_parallel = norm.type == "parallel"
        has_two_norms = is_parallel and not norm.shared
        return {
            **settings,
            "bias": attention.qkv_bias,
            "multi_query": attention.n_kv_heads == 1,
            "new_decoder_architecture": has_two_norms or 1 < attention.n_kv_heads < spec.n_heads,
            "parallel_attn": is_parallel,
            "num_ln_in_parallel_attn": 2 if has_two_norms else 1,
            "alibi": spec.per_layer("positional")[0].type == "alibi",
        }

    def convert_qkv(self, spec: gptzoo.ModelSpec, config: AttentionConfig) -> Conversion:
        return ungroup_qkv(spec.n_heads, config.n_kv_heads, spec.dims.d_head)

    def block_norms(self, spec: gptzoo.ModelSpec) -> Mapping[str, str]:
        if spec.norm.type != "parallel":
            return self.norms
        return SHARED_NORM if spec.norm.shared else {"layers.attention": "ln_attn", "layers.ffn": "ln_mlp"}
