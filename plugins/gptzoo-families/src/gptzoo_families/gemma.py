"""Gemma 1 to 3: scaled embeddings, norms that multiply by 1 + weight, soft caps, local and global layers."""

from __future__ import annotations

from typing import ClassVar

import gptzoo
from gptzoo import Settings
from gptzoo_families.gguf.gemma import Gemma2Gguf, Gemma3Gguf, GemmaGguf
from gptzoo_families.llama_like import FULL, SLIDING, Json, LlamaLike, RopeByLayerType


class Gemma(LlamaLike):
    """Gemma: Llama with embeddings multiplied by sqrt(d_model), GEGLU, and norms that multiply by 1 + weight."""

    name = "gemma"
    architecture = "GemmaForCausalLM"
    gguf: ClassVar[tuple[type[gptzoo.GgufArchitecture], ...]] = (GemmaGguf,)
    paper = "Gemma Team 2024, Gemma: Open Models Based on Gemini Research and Technology, arXiv:2403.08295"
    norm_offset = 1
    defaults = {
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "max_position_embeddings": 8192,
    }

    def spec(self, settings: Settings) -> Json:
        settings.require("use_bidirectional_attention", None, False)
        if settings.value("hidden_activation") is None:
            return self.read_gemma(settings, "hidden_act")
        settings.value("hidden_act")  # transformers lets the other name win
        return self.read_gemma(settings, "hidden_activation")

    def read_gemma(self, settings: Settings, activation: str) -> Json:
        """Return the spec of Gemma 1."""
        spec = self.read_spec(
            settings, tie=True, activation=activation, default_activation="gelu_pytorch_tanh", d_head=256
        )
        spec["architecture"]["embed_scale"] = spec["d_model"] ** 0.5
        return spec


class Gemma2(Gemma):
    """Gemma 2: sandwich norms, soft caps, and a sliding window in every other layer."""

    name = "gemma2"
    architecture = "Gemma2ForCausalLM"
    gguf = (Gemma2Gguf,)
    paper = "Gemma Team 2024, Gemma 2: Improving Open Language Models at a Practical Size, arXiv:2408.00118"
    norms = {
        "before.attention": "input_layernorm",
        "layers.attention": "post_attention_layernorm",
        "before.ffn": "pre_feedforward_layernorm",
        "layers.ffn": "post_feedforward_layernorm",
    }
    softcaps: ClassVar[tuple[float | None, float | None]] = 50.0, 30.0
    """Defaults of the soft caps of scores and of logits."""
    defaults = {
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
    }

    def spec(self, settings: Settings) -> Json:
        settings.require("use_bidirectional_attention", None, False)
        spec = self.read_gemma(settings, "hidden_activation")
        scores, logits = self.softcaps
        spec["norm"]["type"] = "sandwich"
        spec["architecture"]["logit_softcap"] = settings.optional_number("final_logit_softcapping", logits)
        spec["attention"] |= {
            "scale": settings.number("query_pre_attn_scalar", 256.0) ** -0.5,
            "softcap": settings.optional_number("attn_logit_softcapping", scores),
        }
        self.set_qk_norm(spec)
        self.set_window(settings, spec)
        return spec

    def set_qk_norm(self, spec: Json) -> None:
        """Set the norm of queries and keys."""

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str]:
        return [FULL if layer % 2 else SLIDING for layer in range(n_layers)]


class Gemma3(RopeByLayerType, Gemma2):
    """Gemma 3 (text): norms of queries and keys instead of soft caps, and other rotary frequencies in local layers."""

    name = "gemma3_text"
    architecture = "Gemma3ForCausalLM"
    gguf = (Gemma3Gguf,)
    paper = "Gemma Team 2025, Gemma 3 Technical Report, arXiv:2503.19786"
    defaults = {**Gemma2.defaults, "vocab_size": 262208, "max_position_embeddings": 131072}
    # Read only where layer_types is missing.
    no_effect = Gemma2.no_effect | {"_sliding_window_pattern", "sliding_window_pattern"}
    softcaps = None, None
    thetas = {SLIDING: 10000.0, FULL: 1e6}

    def read_positional(self, settings: Settings, fraction: float | None) -> Json | list[Json]:
        local_theta = settings.number("rope_local_base_freq", None)  # of configs of older versions
        if local_theta is None:
            return super().read_positional(settings, fraction)
        types = self.layer_types(settings, settings.count("num_hidden_layers", 26)) or [FULL]
        ropes = {SLIDING: {"type": "rope", "theta": local_theta}, FULL: gptzoo.read_rope(settings, theta=1e6)}
        return [ropes.get(name, ropes[FULL]) for name in types]

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str]:
        interval: int = settings.count("sliding_window_pattern", 0) or settings.count("_sliding_window_pattern", 6)
        return [FULL if (layer + 1) % interval == 0 else SLIDING for layer in range(n_layers)]

    def set_qk_norm(self, spec: Json) -> None:
        spec["attention"]["qk_norm"] = dict(spec["norm"]["layer"])
