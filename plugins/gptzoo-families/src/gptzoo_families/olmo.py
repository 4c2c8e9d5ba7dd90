"""OLMo 1 to 3."""

from __future__ import annotations

import gptzoo
from gptzoo import Settings
from gptzoo_families.gguf.olmo import Olmo2Gguf, Olmo3Gguf, OlmoGguf
from gptzoo_families.llama_like import FULL, SLIDING, Json, LlamaLike, RopeByLayerType


class Olmo(LlamaLike):
    """OLMo: Llama with LayerNorm without weights, and clamped queries, keys and values."""

    name = "olmo"
    architecture = "OlmoForCausalLM"
    gguf = (OlmoGguf,)
    paper = "Groeneveld et al. 2024, OLMo: Accelerating the Science of Language Models, arXiv:2402.00838"
    defaults = {"vocab_size": 50304}

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, layer="layernorm", eps="layer_norm_eps")
        spec["norm"]["layer"] = {"type": "layernorm", "weight": False, "bias": False, "eps": 1e-5}
        spec["attention"]["clip"] = settings.number("clip_qkv", None)
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        del settings["layer_norm_eps"]  # it is fixed
        return settings


class Olmo2(LlamaLike):
    """OLMo 2: norms after each sublayer, and a norm over all query heads and one over all key heads."""

    name = "olmo2"
    architecture = "Olmo2ForCausalLM"
    gguf = (Olmo2Gguf,)
    paper = "OLMo team 2024, 2 OLMo 2 Furious, arXiv:2501.00656"
    norms = {"layers.attention": "post_attention_layernorm", "layers.ffn": "post_feedforward_layernorm"}
    defaults = {"vocab_size": 50304, "rms_norm_eps": 1e-5}

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings)
        spec["norm"]["type"] = "reordered"
        spec["attention"] |= {"qk_norm": dict(spec["norm"]["layer"]), "qk_norm_over": "heads"}
        return spec


class Olmo3(RopeByLayerType, Olmo2):
    """OLMo 3: OLMo 2 with a sliding window in three of four layers."""

    name = "olmo3"
    architecture = "Olmo3ForCausalLM"
    gguf = (Olmo3Gguf,)
    paper = "OLMo team 2025, OLMo 3"
    defaults = {**Olmo2.defaults, "sliding_window": 4096}
    thetas = {SLIDING: 500000.0, FULL: 500000.0}

    def spec(self, settings: Settings) -> Json:
        spec = super().spec(settings)
        self.set_window(settings, spec)
        return spec

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str]:
        return [FULL if (layer + 1) % 4 == 0 else SLIDING for layer in range(n_layers)]
