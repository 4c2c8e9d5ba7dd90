"""GLM-4."""

from __future__ import annotations

from gptzoo import Settings
from gptzoo_families.gguf.pre_norm import Glm4Gguf, GlmGguf
from gptzoo_families.llama_like import Json, LlamaLike


class Glm(LlamaLike):
    """GLM-4 (9B): Llama with partial, interleaved rotary positions and a fused feed-forward network."""

    name = "glm"
    gguf = (GlmGguf,)
    architecture = "GlmForCausalLM"
    paper = "Team GLM 2024, ChatGLM: A Family of Large Language Models, arXiv:2406.12793"
    up = ("gate_up_proj",)
    partial_rotary = True
    interleaved = True
    defaults = {
        "vocab_size": 151552,
        "intermediate_size": 13696,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1.5625e-07,
        "attention_bias": True,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, d_head=128, fraction=0.5)
        spec["attention"]["out_bias"] = False
        return spec


class Glm4(Glm):
    """GLM-4 (0414): GLM-4 with sandwich norms."""

    name = "glm4"
    architecture = "Glm4ForCausalLM"
    gguf = (Glm4Gguf,)
    norms = {
        "before.attention": "input_layernorm",
        "layers.attention": "post_self_attn_layernorm",
        "before.ffn": "post_attention_layernorm",
        "layers.ffn": "post_mlp_layernorm",
    }

    def spec(self, settings: Settings) -> Json:
        spec = super().spec(settings)
        spec["norm"]["type"] = "sandwich"
        return spec
