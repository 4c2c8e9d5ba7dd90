"""gpt-oss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import gptzoo
from gptzoo import Settings, Weight
from gptzoo_families.llama_like import FULL, SLIDING, FfnConfig, Json
from gptzoo_families.mixture import MixtureLike

_YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


class GptOss(MixtureLike):
    """gpt-oss: attention sinks, a sliding window in every other layer, and clamped experts with biases."""

    name = "gpt_oss"
    architecture = "GptOssForCausalLM"
    paper = "OpenAI 2025, gpt-oss-120b & gpt-oss-20b Model Card, arXiv:2508.10925"
    no_effect = MixtureLike.no_effect | {"experts_per_token", "initial_context_length"}
    defaults = {
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 128,
        "rms_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        settings.require("swiglu_alpha", 1.702)
        if settings.value("rope_parameters") is None and settings.value("rope_scaling") is None:
            settings.set_defaults({"rope_theta": 150000.0, "rope_scaling": _YARN})
        spec = self.read_spec(settings, bias=settings.flag("attention_bias", True), d_head=64)
        spec["attention"]["sinks"] = True
        n_active = settings.count("num_experts_per_tok", 4)
        settings.require("experts_per_token", n_active, None)
        spec["ffn"] = {
            "type": "moe",
            "n_experts": settings.count("num_local_experts", 128),
            "n_active": n_active,
            "router_bias": True,
            "expert": {
                "type": "glu",
                "d_ff": spec["ffn"]["d_ff"],
                "bias": True,
                "activation": "quick_gelu",
                "limit": settings.number("swiglu_limit", 7.0),
                "shift": 1.0,
            },
        }
        self.set_window(settings, spec)
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        mixture: Any = spec.ffn
        return {**super().settings(spec), "swiglu_limit": mixture.expert.limit}

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str]:
        return [FULL if layer % 2 else SLIDING for layer in range(n_layers)]

    def attention_weights(self, spec: gptzoo.ModelSpec, layer: int, ours: str, theirs: str) -> Iterator[Weight]:
        yield from super().attention_weights(spec, layer, ours, theirs)
        yield Weight(f"{ours}.sinks", f"{theirs}.sinks")

    def ffn_weights(self, config: FfnConfig, ours: str, theirs: str) -> Iterator[Weight]:
        yield from self.linear(f"{ours}.router", f"{theirs}.router", bias=True)
        n_experts: int = config.n_experts  # type: ignore[attr-defined]

        def shapes(shape: tuple[int, ...], weight: Weight) -> list[tuple[int, ...]]:
            return [(n_experts, *shape[::-1])]

        for expert in range(n_experts):
            weight, bias = _matrix(expert), _vector(expert)
            source, name = f"{theirs}.experts", f"{ours}.experts.{expert}"
            for ours_of_expert, theirs_of_experts, convert in (
                ("gate_up.weight", "gate_up_proj", lambda w, f=weight: _gates_first(f(w))),
                ("gate_up.bias", "gate_up_proj_bias", lambda b, f=bias: _gates_first(f(b))),
                ("down.weight", "down_proj", weight),
                ("down.bias", "down_proj_bias", bias),
            ):
                yield Weight(f"{name}.{ours_of_expert}", f"{source}.{theirs_of_experts}", convert, shapes=shapes)


def _matrix(expert: int) -> Callable[[Tensor], Tensor]:
    """Return a conversion of the weights (E, in, out) of all experts into those of one, (out, in)."""
    return lambda weights: weights[expert].t()


def _vector(expert: int) -> Callable[[Tensor], Tensor]:
    return lambda biases: biases[expert]


def _gates_first(rows: Tensor) -> Tensor:
    """Return rows that alternate between gate and up as all gates, then all ups."""
    return torch.cat([rows[0::2], rows[1::2]])
