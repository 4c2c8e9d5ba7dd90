"""Gemma 1 to 3."""

from __future__ import annotations

from gptzoo import GgufArchitecture, GgufMetadata
from gptzoo_families.gguf.tables import BLOCK, FULL, LAYER, LLAMA, POST_NORMS, QK_NORMS, SLIDING, Json, read_layer_types


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
