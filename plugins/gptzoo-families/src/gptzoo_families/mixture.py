"""Families with mixtures of experts: Mixtral, Qwen3-MoE and OLMoE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gptzoo
from gptzoo import Settings, Weight
from gptzoo_families.gguf.mixture import MixtralGguf, OlmoeGguf, Qwen3MoeGguf
from gptzoo_families.llama_like import FfnConfig, Json, LlamaLike
from gptzoo_families.pre_norm import Qwen3


class MixtureLike(LlamaLike):
    """Base class of families with mixtures of experts."""

    gate: ClassVar[str] = "gate"
    shared: ClassVar[str] = "shared_expert"

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        per_layer = spec.per_layer("ffn")
        mixture: Any = next(config for config in per_layer if config.type == "moe")
        d_ff = mixture.expert.d_ff
        return {
            **settings,
            "intermediate_size": next((config.d_ff for config in per_layer if config.type != "moe"), d_ff),  # type: ignore[attr-defined]
            "moe_intermediate_size": d_ff,
            "num_experts": mixture.n_experts,
            "num_local_experts": mixture.n_experts,
            "num_experts_per_tok": mixture.n_active,
            "norm_topk_prob": mixture.normalise,
            "routed_scaling_factor": mixture.scale,
        }

    def ffn_weights(self, config: FfnConfig, ours: str, theirs: str) -> Iterator[Weight]:
        if config.type != "moe":
            yield from super().ffn_weights(config, ours, theirs)
            return
        mixture: Any = config  # of `moe`
        yield Weight(f"{ours}.router.weight", f"{theirs}.{self.gate}.weight")
        for expert in range(mixture.n_experts):
            yield from super().ffn_weights(mixture.expert, f"{ours}.experts.{expert}", f"{theirs}.experts.{expert}")
        if mixture.balance is not None and mixture.balance.type == "bias":
            yield Weight(f"{ours}.balance.bias", f"{theirs}.{self.gate}.e_score_correction_bias")
        if mixture.shared is not None:
            yield from super().ffn_weights(mixture.shared, f"{ours}.shared.0", f"{theirs}.{self.shared}")
        if mixture.shared_gate:
            yield Weight(f"{ours}.shared_gate.weight", f"{theirs}.{self.shared}_gate.weight")


class Mixtral(MixtureLike):
    """Mixtral: Mistral with a mixture of experts in each layer."""

    name = "mixtral"
    architecture = "MixtralForCausalLM"
    gguf = (MixtralGguf,)
    paper = "Jiang et al. 2024, Mixtral of Experts, arXiv:2401.04088"
    ffn = "block_sparse_moe"
    up = ("w1", "w3")
    down = "w2"
    uniform_window = True
    defaults = {
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, bias=False)
        n_active = settings.count("num_experts_per_tok", 2)
        if n_active == 1:
            settings.reject("num_experts_per_tok", hint=", because the weight of a single expert is always 1")
        spec["ffn"] = {
            "type": "moe",
            "n_experts": settings.count("num_local_experts", 8),
            "n_active": n_active,
            "expert": {**spec["ffn"], "bias": False},
        }
        self.set_window(settings, spec)
        return spec


class Qwen3Moe(MixtureLike, Qwen3):
    """Qwen3-MoE: Qwen3 with mixtures of experts in some or all layers."""

    name = "qwen3_moe"
    architecture = "Qwen3MoeForCausalLM"
    gguf = (Qwen3MoeGguf,)
    paper = "Yang et al. 2025, Qwen3 Technical Report, arXiv:2505.09388"
    d_head: ClassVar[int | None] = None
    defaults = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
    }

    def spec(self, settings: Settings) -> Json:
        spec = super().spec(settings)
        dense = {**spec["ffn"], "bias": False}
        n_experts = settings.count("num_experts", None) or settings.count("num_local_experts", 128)
        settings.require("num_local_experts", n_experts, None)  # transformers 5 writes both names
        experts = {
            "type": "moe",
            "n_experts": n_experts,
            "n_active": settings.count("num_experts_per_tok", 8),
            "normalise": settings.flag("norm_topk_prob", False),
            "expert": {**dense, "d_ff": settings.count("moe_intermediate_size", 768)},
        }
        interval = settings.count("decoder_sparse_step", 1)
        dense_layers = settings.value("mlp_only_layers") or []
        spec["ffn"] = [
            experts if layer not in dense_layers and (layer + 1) % interval == 0 else dense
            for layer in range(spec["n_layers"])
        ]
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        dense = [layer for layer, config in enumerate(spec.per_layer("ffn")) if config.type != "moe"]
        return {**super().settings(spec), "decoder_sparse_step": 1, "mlp_only_layers": dense}


class Olmoe(MixtureLike):
    """OLMoE: a mixture of experts in each layer, and norms over all query heads and over all key heads."""

    name = "olmoe"
    architecture = "OlmoeForCausalLM"
    gguf = (OlmoeGguf,)
    paper = "Muennighoff et al. 2024, OLMoE: Open Mixture-of-Experts Language Models, arXiv:2409.02060"
    defaults = {
        "vocab_size": 50304,
        "hidden_size": 2048,
        "intermediate_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }

    def spec(self, settings: Settings) -> Json:
        spec = self.read_spec(settings, eps="rms_norm_eps")
        n_experts = settings.count("num_experts", None) or settings.count("num_local_experts", 64)
        settings.require("num_local_experts", n_experts, None)
        spec["ffn"] = {
            "type": "moe",
            "n_experts": n_experts,
            "n_active": settings.count("num_experts_per_tok", 8),
            "normalise": settings.flag("norm_topk_prob", False),
            "expert": {**spec["ffn"], "bias": False},
        }
        spec["attention"] |= {
            "qk_norm": dict(spec["norm"]["layer"]),
            "qk_norm_over": "heads",
            "clip": settings.number("clip_qkv", None),
        }
        return spec
