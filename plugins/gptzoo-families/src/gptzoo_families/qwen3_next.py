"""Qwen3-Next: gated DeltaNet in most layers, gated attention in the others, and mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import gptzoo
from gptzoo import Settings, Weight
from gptzoo_families.llama_like import FULL, Json
from gptzoo_families.mixture import Qwen3Moe
from gptzoo_families.tensors import Conversion

_LINEAR = "linear_attention"


class Qwen3Next(Qwen3Moe):
    """Qwen3-Next: Qwen3-MoE with gated DeltaNet in three of four layers, output gates and a gated shared expert."""

    name = "qwen3_next"
    architecture = "Qwen3NextForCausalLM"
    paper = "Qwen Team 2025, Qwen3-Next"
    ignored = r"mtp\\..*"  # the head for multi-token prediction
    norm_offset = 1
    d_head = 256
    partial_rotary = True
    defaults = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 512,
        "norm_topk_prob": True,
    }

    def spec(self, settings: Settings) -> Json:
        spec = super().spec(settings)
        types = self.layer_types(settings, spec["n_layers"]) or [FULL]
        # A norm of the outputs follows, so scaling queries by d_key^-0.5 is the same as a larger eps.
        d_key = settings.count("linear_key_head_dim", 128)
        linear = {
            "type": "gated_delta",
            "conv_size": settings.count("linear_conv_kernel_dim", 4),
            "n_key_heads": settings.count("linear_num_key_heads", 16),
            "n_value_heads": settings.count("linear_num_value_heads", 32),
            "d_key": d_key,
            "d_value": settings.count("linear_value_head_dim", 128),
            "eps": spec["norm"]["layer"]["eps"] * d_key,
        }
        full = {**spec["attention"], "gate": True}
        rope = spec["positional"]
        spec["attention"] = [linear if name == _LINEAR else full for name in types]
        spec["positional"] = ["none" if name == _LINEAR else rope for name in types]
        width = settings.count("shared_expert_intermediate_size", 512)
        for ffn in spec["ffn"]:
            if ffn["type"] == "moe":
                ffn |= {"shared": {**ffn["expert"], "d_ff": width}, "shared_gate": True}
        return spec

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        per_layer: list[Any] = list(spec.per_layer("attention"))
        linear = next(config for config in per_layer if config.type == "gated_delta")
        mixture: Any = next(config for config in spec.per_layer("ffn") if config.type == "moe")
        return {
            **settings,
            "layer_types": [_LINEAR if config.type == "gated_delta" else FULL for config in per_layer],
            "linear_conv_kernel_dim": linear.conv_size,
            "linear_num_key_heads": linear.n_key_heads,
            "linear_num_value_heads": linear.n_value_heads,
            "linear_key_head_dim": linear.d_key,
            "linear_value_head_dim": linear.d_value,
            "shared_expert_intermediate_size": mixture.shared.d_ff,
        }

    def read_positional(self, settings: Settings, fraction: float | None) -> Json | list[Json]:
        return super().read_positional(settings, 0.25)

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str]:
        interval = settings.count("full_attention_interval", 4)
        return [FULL if (layer + 1) % interval == 0 else _LINEAR for layer in range(n_layers)]

    def attention_weights(self, spec: gptzoo.ModelSpec, layer: int, ours: str, theirs: str) -> Iterator[Weight]:
        config: Any = spec.per_layer("attention")[layer]
        if config.type == "gated_delta":
            yield from self._delta_weights(config, ours, theirs.replace(self.attention, "linear_attn"))
            return
        queries, gates = _halves_of_heads(spec.n_heads)
        qkv = tuple(f"{theirs}.{name}" for name in self.qkv)
        q_rows, kv_rows = (n * spec.dims.d_head for n in (spec.n_heads, config.n_kv_heads))
        yield from self.linear(
            f"{ours}.qkv",
            qkv,
            bias=config.qkv_bias,
            convert=lambda q, k, v: torch.cat([queries(q), k, v]),
            rows=(2 * q_rows, kv_rows, kv_rows),
        )
        yield from self.linear(
            f"{ours}.gate", f"{theirs}.q_proj", bias=config.qkv_bias, convert=gates, rows=(2 * q_rows,)
        )
        yield from self.linear(f"{ours}.out", f"{theirs}.{self.out}", bias=config.out_bias)
        for name in ("q_norm", "k_norm"):
            yield from self.norm(config.qk_norm, f"{ours}.{name}", f"{theirs}.{name}")

    def _delta_weights(self, gated_delta: gptzoo.Config, ours: str, theirs: str) -> Iterator[Weight]:
        config: Any = gated_delta
        n_keys, d_key = config.n_key_heads, config.d_key
        per_key = config.n_value_heads // n_keys
        value_width = per_key * config.d_value

        def parts(*wanted: int) -> Conversion:
            """Return a conversion that takes some of: queries, keys, values, gates. Rows are grouped by key head."""

            def convert(weight: Tensor) -> Tensor:
                groups = weight.view(n_keys, 2 * d_key + 2 * value_width, -1)
                split = groups.split([d_key, d_key, value_width, value_width], dim=1)
                return torch.cat([split[index].reshape(-1, weight.shape[1]) for index in wanted])

            return convert

        def half(index: int) -> Conversion:
            return lambda weight: weight.view(n_keys, 2, per_key, -1)[:, index].reshape(n_keys * per_key, -1)

        qkvz = gptzoo.source_rows(n_keys * (2 * d_key + 2 * value_width))
        for name, convert in (("qkv", parts(0, 1, 2)), ("gate", parts(3))):
            yield Weight(f"{ours}.{name}.weight", f"{theirs}.in_proj_qkvz.weight", convert, shapes=qkvz)
        ba = gptzoo.source_rows(2 * config.n_value_heads)
        for name, convert in (("beta", half(0)), ("alpha", half(1))):
            yield Weight(f"{ours}.{name}.weight", f"{theirs}.in_proj_ba.weight", convert, shapes=ba)
        for our_name, their_name in (
            ("taps", "conv1d.weight"),
            ("A_log", "A_log"),
            ("dt_bias", "dt_bias"),
            ("norm.weight", "norm.weight"),
            ("out.weight", "out_proj.weight"),
        ):
            yield Weight(f"{ours}.{our_name}", f"{theirs}.{their_name}")


def _halves_of_heads(n_heads: int) -> tuple[Conversion, Conversion]:
    """Return conversions that take the first and the second half of the rows of each head."""

    def half(index: int) -> Conversion:
        return lambda weight: weight.view(n_heads, 2, -1, *weight.shape[1:])[:, index].flatten(0, 1)

    return half(0), half(1)
