"""DeepSeek-V2 and DeepSeek-V3: latent attention and mixtures of experts in groups."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

import gptzoo
from gptzoo import Settings, Weight
from gptzoo_families.llama_like import Json, LlamaLike
from gptzoo_families.mixture import MixtureLike
from gptzoo_families.tensors import deinterleave


class DeepSeekV2(MixtureLike):
    """DeepSeek-V2: multi-head latent attention, and a mixture of experts with shared experts from some layer on."""

    name = "deepseek_v2"
    architecture = "DeepseekV2ForCausalLM"
    paper = "DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434"
    no_effect = LlamaLike.no_effect | {
        "aux_loss_alpha",
        "ep_size",
        "head_dim",  # the rotated width, which qk_rope_head_dim says
        "num_mtp_layers",
        "num_nextn_predict_layers",
        "qk_head_dim",
        "seq_aux",
    }
    defaults = {
        "vocab_size": 102400,
        "num_key_value_heads": 32,
        "first_k_dense_replace": 0,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "moe_intermediate_size": 1407,
        "routed_scaling_factor": 1.0,
    }
    shared = "shared_experts"

    def spec(self, settings: Settings) -> Json:
        settings.require("moe_layer_freq", 1)
        spec = self.read_spec(settings)
        attention = spec["attention"]
        rope_dim, nope_dim = settings.count("qk_rope_head_dim", 64), settings.count("qk_nope_head_dim", 128)
        spec["attention"] = {
            "type": "mla",
            "q_rank": settings.count("q_lora_rank", None),
            "kv_rank": settings.count("kv_lora_rank", 512),
            "rope_dim": rope_dim,
            "nope_dim": nope_dim,
            "v_dim": settings.count("v_head_dim", 128),
            "norm": {"type": "rmsnorm", "eps": 1e-6},
            "scale": _score_scale(settings, rope_dim + nope_dim),
            **{option: attention[option] for option in ("dropout", "qkv_bias", "out_bias")},
        }
        spec["d_head"] = None
        dense = {**spec["ffn"], "bias": settings.flag("mlp_bias", False)}
        width = settings.count("moe_intermediate_size", 1407)
        experts = {
            "type": "moe",
            "n_experts": settings.count("n_routed_experts", 64),
            "n_active": settings.count("num_experts_per_tok", None) or 1,
            "scale": settings.number("routed_scaling_factor", 1.0),
            "expert": {**dense, "d_ff": width, "bias": False},
            "shared": {**dense, "d_ff": width * settings.count("n_shared_experts", 2), "bias": False},
            **self.routing(settings),
        }
        n_dense = settings.value("first_k_dense_replace") or 0
        n_layers = spec["n_layers"]
        spec["ffn"] = [dense] * min(n_dense, n_layers) + [experts] * max(0, n_layers - n_dense)
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        attention, mixture = cast(Any, spec.attention), cast(Any, spec.per_layer("ffn")[-1])
        settings = super().settings(spec)
        n_dense = [ffn.type for ffn in spec.per_layer("ffn")].index("moe")
        if attention.scale is not None:
            mscale = _mscale(attention.scale, attention.rope_dim + attention.nope_dim, settings["rope_parameters"])
            for key in ("rope_parameters", "rope_scaling"):
                settings[key]["mscale_all_dim"] = mscale
        return {
            **settings,
            "num_key_value_heads": spec.n_heads,
            "head_dim": attention.rope_dim,
            "q_lora_rank": attention.q_rank,
            "kv_lora_rank": attention.kv_rank,
            "qk_rope_head_dim": attention.rope_dim,
            "qk_nope_head_dim": attention.nope_dim,
            "v_head_dim": attention.v_dim,
            "attention_bias": attention.qkv_bias,
            "n_routed_experts": mixture.n_experts,
            "n_shared_experts": 0 if mixture.shared is None else mixture.shared.d_ff // mixture.expert.d_ff,
            "first_k_dense_replace": n_dense,
            "n_group": mixture.n_groups,
            "topk_group": mixture.n_active_groups or 1,
            "topk_method": self.topk_method(mixture.n_groups),
        }

    def topk_method(self, n_groups: int) -> str:
        """Return the name of how experts are selected."""
        return "greedy" if n_groups == 1 else "group_limited_greedy"

    def routing(self, settings: Settings) -> Json:
        """Return the options of the mixture that decide which experts are selected."""
        settings.require("scoring_func", "softmax")
        settings.require("norm_topk_prob", False)  # transformers does not normalise
        groups, active = settings.count("n_group", None), settings.count("topk_group", None)
        method = settings.value("topk_method", "greedy")
        if method not in ("greedy", "group_limited_greedy"):
            settings.reject("topk_method")
        grouped = {} if method == "greedy" else {"n_groups": groups or 1, "n_active_groups": active or 1}
        return {"normalise": False, **grouped}

    def attention_weights(self, spec: gptzoo.ModelSpec, layer: int, ours: str, theirs: str) -> Iterator[Weight]:
        config: Any = spec.per_layer("attention")[layer]
        nope_dim, rope_dim = config.nope_dim, config.rope_dim
        to_pairs = deinterleave(1, rope_dim, rope_dim)

        def convert_q(weight: Tensor) -> Tensor:
            heads = weight.view(spec.n_heads, nope_dim + rope_dim, *weight.shape[1:])
            rotated = deinterleave(spec.n_heads, rope_dim, rope_dim)(heads[:, nope_dim:].flatten(0, 1))
            rotated = rotated.view(spec.n_heads, rope_dim, *weight.shape[1:])
            return torch.cat([heads[:, :nope_dim], rotated], dim=1).reshape(weight.shape)

        def convert_kv(weight: Tensor) -> Tensor:
            return torch.cat([weight[:-rope_dim], to_pairs(weight[-rope_dim:])])

        bias = config.qkv_bias
        if config.q_rank is None:
            yield from self.linear(f"{ours}.q", f"{theirs}.q_proj", bias=bias, convert=convert_q)
        else:
            yield from self.linear(f"{ours}.q.down", f"{theirs}.q_a_proj", bias=bias)
            yield from self.norm(config.norm, f"{ours}.q.norm", f"{theirs}.q_a_layernorm")
            yield from self.linear(f"{ours}.q.up", f"{theirs}.q_b_proj", bias=False, convert=convert_q)
        yield from self.linear(f"{ours}.kv_down", f"{theirs}.kv_a_proj_with_mqa", bias=bias, convert=convert_kv)
        yield from self.norm(config.norm, f"{ours}.kv_norm", f"{theirs}.kv_a_layernorm")
        yield from self.linear(f"{ours}.kv", f"{theirs}.kv_b_proj", bias=False)
        yield from self.linear(f"{ours}.out", f"{theirs}.{self.out}", bias=config.out_bias)


class DeepSeekV3(DeepSeekV2):
    """DeepSeek-V3 and R1: DeepSeek-V2 with sigmoid scores and a bias that balances the experts without a loss."""

    name = "deepseek_v3"
    architecture = "DeepseekV3ForCausalLM"
    paper = "DeepSeek-AI 2024, DeepSeek-V3 Technical Report, arXiv:2412.19437"
    ignored = r"layers\.61\..*"  # the head for multi-token prediction of the published model
    defaults = {
        **DeepSeekV2.defaults,
        "vocab_size": 129280,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "n_shared_experts": 1,
        "n_routed_experts": 256,
        "routed_scaling_factor": 2.5,
        "num_experts_per_tok": 8,
        "n_group": 8,
        "topk_group": 4,
        "first_k_dense_replace": 3,
        "max_position_embeddings": 4096,
    }

    def topk_method(self, n_groups: int) -> str:
        return "noaux_tc"

    def routing(self, settings: Settings) -> Json:
        settings.require("rope_interleave", True)
        settings.require("scoring_func", "sigmoid")
        settings.require("topk_method", "noaux_tc")
        groups, active = settings.count("n_group", 8), settings.count("topk_group", 4)
        return {
            "normalise": settings.flag("norm_topk_prob", True),
            "scores": "sigmoid",
            "balance": {"type": "bias"},
            "n_groups": groups,
            "n_active_groups": active,
            "group_score": "top2",
        }


def _mscale(scale: float, width: int, rope: Json) -> float:
    """Return the `mscale_all_dim` for which `_score_scale` returns `scale`, for attention of a width."""
    ratio: float = (scale * width**0.5) ** 0.5
    return round((ratio - 1) / (0.1 * math.log(rope["factor"])), 12)


def _score_scale(settings: Settings, width: int) -> float | None:
    """Return the factor on attention scores, which DeepSeek raises with YaRN. None: the default."""
    for key in ("rope_parameters", "rope_scaling"):
        options = settings.nested(key)
        mscale, factor = options.number("mscale_all_dim", None), options.number("factor", None)
        if mscale and factor and factor > 1:
            return float(width**-0.5 * (0.1 * mscale * math.log(factor) + 1) ** 2)
    return None
