"""OLMo 1 to 3."""

from __future__ import annotations

from collections.abc import Iterator

import gptzoo
from gptzoo import GgufArchitecture, GgufMetadata, InterleavedLlama
from gptzoo_families.gguf.tables import (
    BARE,
    FULL,
    LAYER_NORM,
    POST_NORMS,
    QK_NORMS,
    SLIDING,
    Json,
    read_layer_types,
    without,
)


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

    def limits(self, spec: gptzoo.ModelSpec) -> Iterator[str]:
        yield from super().limits(spec)
        windows = [getattr(attention, "window", None) for attention in spec.per_layer("attention")]
        if any((window is None) != ((layer + 1) % 4 == 0) for layer, window in enumerate(windows)):
            yield "every fourth layer, and no other, must see the whole context"
