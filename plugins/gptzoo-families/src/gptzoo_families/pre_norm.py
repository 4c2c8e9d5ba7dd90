"""Families with Llama's pre-norm blocks: Mistral, Qwen2, Qwen3, SmolLM3, Granite, StarCoder2 and Phi-3."""

from __future__ import annotations

from typing import ClassVar

import gptzoo
from gptzoo import Settings
from gptzoo_families.gguf.pre_norm import GraniteGguf, Phi3Gguf, Qwen2Gguf, Qwen3Gguf, SmolLM3Gguf, StarCoder2Gguf
from gptzoo_families.llama_like import FULL, SLIDING, Json, LlamaLike, set_mlp, set_residual_dropout


class Mistral(LlamaLike):
    """Mistral: Llama with a sliding window."""

    name = "mistral"
    architecture = "MistralForCausalLM"
    paper = "Jiang et al. 2023, Mistral 7B, arXiv:2310.06825"
    uniform_window = True
    defaults = {
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, bias=False)
        self.set_window(settings, spec)
        return spec


class QwenLike(LlamaLike):
    """Base class of families with a sliding window in the upper layers, if `use_sliding_window` says so."""

    no_effect = LlamaLike.no_effect | {"max_window_layers"}  # read where layer_types is missing

    defaults = {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768}

    def set_window(self, settings: Settings, spec: Json) -> None:
        if settings.flag("use_sliding_window", False):
            settings.set_defaults({"sliding_window": 4096})
            super().set_window(settings, spec)
        else:
            for key in ("sliding_window", "layer_types"):
                settings.value(key)

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str]:
        first = settings.value("max_window_layers", 28)
        return [SLIDING if layer >= first else FULL for layer in range(n_layers)]


class Qwen2(QwenLike):
    """Qwen2 and Qwen2.5: Llama with biases of queries, keys and values."""

    name = "qwen2"
    architecture = "Qwen2ForCausalLM"
    gguf = (Qwen2Gguf,)
    paper = "Yang et al. 2024, Qwen2 Technical Report, arXiv:2407.10671"

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, bias=False)
        spec["attention"]["qkv_bias"] = True
        self.set_window(settings, spec)
        return spec


class Qwen3(QwenLike):
    """Qwen3: Llama with a norm of each query and key head."""

    name = "qwen3"
    architecture = "Qwen3ForCausalLM"
    gguf = (Qwen3Gguf,)
    paper = "Yang et al. 2025, Qwen3 Technical Report, arXiv:2505.09388"
    d_head: ClassVar[int | None] = 128
    """Default width of a head."""

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, d_head=self.d_head)
        spec["attention"]["qk_norm"] = dict(spec["norm"]["layer"])
        self.set_window(settings, spec)
        return spec


class SmolLM3(QwenLike):
    """SmolLM3: Llama with some layers without position encoding (NoPE)."""

    name = "smollm3"
    architecture = "SmolLM3ForCausalLM"
    gguf = (SmolLM3Gguf,)
    paper = "Bakouch et al. 2025, SmolLM3"
    defaults = {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 2000000.0,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, tie=True)
        spec["ffn"]["bias"] = settings.flag("mlp_bias", False)
        self.set_window(settings, spec)
        interval = settings.count("no_rope_layer_interval", 4)
        default = [int((layer + 1) % interval != 0) for layer in range(spec["n_layers"])]
        rotates = settings.value("no_rope_layers")  # 1 for each layer that has positions, in spite of the name
        if rotates is None:
            rotates = default
        if not isinstance(rotates, list) or len(rotates) != spec["n_layers"]:
            settings.reject("no_rope_layers", hint="; expected 0 or 1 for each layer")
        else:
            spec["positional"] = [spec["positional"] if rotated else "none" for rotated in rotates]
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        rotates = [int(positional.type != "none") for positional in spec.per_layer("positional")]
        return {**super().settings(spec), "no_rope_layers": rotates}


class Granite(LlamaLike):
    """Granite: Llama with factors on embeddings, attention scores, residuals and logits."""

    name = "granite"
    architecture = "GraniteForCausalLM"
    gguf = (GraniteGguf,)
    paper = "Granite Team, IBM 2024, Granite 3.0 Language Models"

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings)
        spec["ffn"]["bias"] = settings.flag("mlp_bias", False)
        spec["attention"]["scale"] = settings.number("attention_multiplier", 1.0)
        spec["norm"]["residual_scale"] = settings.number("residual_multiplier", 1.0)
        spec["architecture"]["embed_scale"] = settings.number("embedding_multiplier", 1.0)
        spec["architecture"]["logit_scale"] = 1 / settings.number("logits_scaling", 1.0)
        return spec


class StarCoder2(LlamaLike):
    """StarCoder2: LayerNorm, biases and a plain feed-forward network."""

    name = "starcoder2"
    architecture = "Starcoder2ForCausalLM"
    gguf = (StarCoder2Gguf,)
    paper = "Lozhkov et al. 2024, StarCoder 2 and The Stack v2, arXiv:2402.19173"
    up = ("c_fc",)
    down = "c_proj"
    uniform_window = True
    no_effect = LlamaLike.no_effect | {"activation_function", "layer_norm_epsilon", "mlp_type", "norm_type"}
    defaults = {
        "vocab_size": 49152,
        "hidden_size": 3072,
        "intermediate_size": 12288,
        "num_hidden_layers": 30,
        "num_attention_heads": 24,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.018042,
        "norm_epsilon": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        bias = settings.flag("use_bias", True)
        spec = self.read_spec(
            settings,
            bias=bias,
            tie=True,
            layer="layernorm",
            eps="norm_epsilon",
            default_activation="gelu_pytorch_tanh",
        )
        set_mlp(spec, bias=bias)
        set_residual_dropout(spec, settings.number("residual_dropout", 0.0))
        spec["architecture"]["embed_dropout"] = settings.number("embedding_dropout", 0.0)
        self.set_window(settings, spec)
        return spec


class Phi3(LlamaLike):
    """Phi-3, Phi-3.5 and Phi-4: Llama with fused projections. The scaling `longrope` is refused."""

    name = "phi3"
    architecture = "Phi3ForCausalLM"
    gguf = (Phi3Gguf,)
    paper = "Abdin et al. 2024, Phi-3 Technical Report, arXiv:2404.14219"
    qkv = ("qkv_proj",)
    up = ("gate_up_proj",)
    partial_rotary = True
    uniform_window = True
    no_effect = LlamaLike.no_effect | {"full_attn_mod", "interpolate_factor"}
    defaults = {
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, bias=False, fraction=1.0)
        settings.count("original_max_position_embeddings", None)  # used by longrope only
        set_residual_dropout(spec, settings.number("resid_pdrop", 0.0))
        spec["architecture"]["embed_dropout"] = settings.number("embd_pdrop", 0.0)
        self.set_window(settings, spec)
        return spec
