"""The base class of families whose checkpoints are organised like Llama's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol, cast

import gptzoo
from gptzoo import Settings, Weight
from gptzoo_families.tensors import Conversion, add_one, concatenate, deinterleave, deinterleave_qkv, subtract_one

Json = dict[str, Any]

SLIDING, FULL = "sliding_attention", "full_attention"
"""Types of layers in `layer_types`."""


class AttentionConfig(Protocol):
    """The options of `sdpa` that decide which tensors it has."""

    n_kv_heads: int
    qkv_bias: bool
    out_bias: bool
    qk_norm: gptzoo.NormLayer.Config | None


class FfnConfig(Protocol):
    """The options of `mlp` and `glu` that decide which tensors they have."""

    type: str
    bias: bool


_NO_EFFECT = frozenset(
    {
        "is_decoder",
        "output_router_logits",
        "pretraining_tp",
        "router_aux_loss_coef",
        "router_jitter_noise",
    }
)


def set_mlp(spec: Json, *, bias: bool = True) -> None:
    """Give a spec a feed-forward network without a gate, and norms with biases."""
    spec["ffn"] = {"type": "mlp", "d_ff": spec["ffn"]["d_ff"], "bias": bias}
    spec["norm"]["layer"]["bias"] = True


def set_residual_dropout(spec: Json, probability: float) -> None:
    """Set the dropout of what attention and feed-forward networks add to the residual stream."""
    spec["attention"]["out_dropout"] = spec["ffn"]["dropout"] = probability


class LlamaLike(gptzoo.Importer):
    """Base class of families with Llama's settings and tensor names, as far as a subclass does not say otherwise.

    A subclass implements `spec`, usually by changing the result of `read_spec`. Class attributes are the names of
    tensors in the checkpoint. The tensors follow from the spec.
    """

    prefix = "model."
    ignored = r"layers\.\d+\.(self_attn|attention)\.(rotary_emb\.inv_freq|bias|masked_bias)"
    no_effect = _NO_EFFECT

    defaults: ClassVar[Mapping[str, Any]] = {}
    """Values that missing settings have in transformers, where they differ from Llama's."""

    embed: ClassVar[str] = "embed_tokens"
    head: ClassVar[str] = "lm_head"
    exit: ClassVar[str] = "norm"
    layers: ClassVar[str] = "layers"
    attention: ClassVar[str] = "self_attn"
    qkv: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj")
    out: ClassVar[str] = "o_proj"
    qk_norms: ClassVar[tuple[str, str]] = ("q_norm", "k_norm")
    ffn: ClassVar[str] = "mlp"
    up: ClassVar[tuple[str, ...]] = ("gate_proj", "up_proj")  # or one name, of a network without a gate
    down: ClassVar[str] = "down_proj"
    norms: ClassVar[Mapping[str, str]] = {
        "layers.attention": "input_layernorm",
        "layers.ffn": "post_attention_layernorm",
    }
    """Norms of a block: our name and the name in the checkpoint."""
    norm_offset: ClassVar[int] = 0
    """1 in families whose norms multiply by 1 + weight."""
    uniform_window: ClassVar[bool] = False
    """True in families whose sliding window, if there is one, is in all layers."""
    partial_rotary: ClassVar[bool] = False
    """True in families that may rotate a part of each head only."""
    interleaved: ClassVar[bool] = False
    """True in families that rotate the pairs (2i, 2i + 1)."""

    # ------------------------------------------------------------------ settings

    def read_spec(
        self,
        settings: Settings,
        *,
        bias: str | bool = "attention_bias",
        tie: bool = False,
        layer: str = "rmsnorm",
        eps: str = "rms_norm_eps",
        activation: str = "hidden_act",
        default_activation: str = "silu",
        d_head: int | None = None,
        fraction: float | None = None,
    ) -> Json:
        """Return the spec of a Llama-like model, as JSON to be changed.

        bias: the setting for biases in attention (its default is False), or their value.
        tie: the family's default for tied embeddings.
        layer, eps: the norm layer, and the setting of its epsilon.
        activation, default_activation: the setting of the activation, and its default.
        d_head: the family's default for the width of a head. None: d_model / n_heads.
        fraction: the family's default for the rotated fraction of a head. None: the family rotates whole heads only.
        """
        settings.set_defaults(self.defaults)
        n_heads = settings.count("num_attention_heads", 32)
        has_bias = settings.flag(bias, False) if isinstance(bias, str) else bias
        return {
            "vocab_size": settings.count("vocab_size", 32000),
            "context_length": settings.count("max_position_embeddings", 2048),
            "d_model": settings.count("hidden_size", 4096),
            "n_layers": settings.count("num_hidden_layers", 32),
            "n_heads": n_heads,
            "d_head": settings.count("head_dim", d_head),
            "architecture": {"type": "decoder", "init_std": settings.number("initializer_range", 0.02)},
            "attention": {
                "type": "sdpa",
                "n_kv_heads": settings.count("num_key_value_heads", None) or n_heads,
                "dropout": settings.number("attention_dropout", 0.0),
                "qkv_bias": has_bias,
                "out_bias": has_bias,
            },
            "positional": self.read_positional(settings, fraction),
            "norm": {"type": "pre_ln", "layer": {"type": layer, "eps": settings.number(eps, 1e-6)}},
            "activation": settings.activation(activation, default_activation),
            "ffn": {"type": "glu", "d_ff": settings.count("intermediate_size", 11008)},
            "dropout": 0.0,
            "bias": False,
            "tie_embeddings": settings.flag("tie_word_embeddings", tie),
        }

    def read_positional(self, settings: Settings, fraction: float | None) -> Json | list[Json]:
        """Return the position encoding, as JSON: one, or one for each layer."""
        return gptzoo.read_rope(settings, fraction=fraction)

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        if self.uniform_window:
            del settings["layer_types"]  # transformers would load another family
        if self.partial_rotary and (rope := settings.get("rope_parameters")):
            rope.setdefault("partial_rotary_factor", 1.0)  # the families have other defaults
            settings["partial_rotary_factor"] = rope["partial_rotary_factor"]
        return settings

    def layer_types(self, settings: Settings, n_layers: int) -> list[str] | None:
        """Return the type of each layer. None: all layers are alike."""
        types = settings.value("layer_types")
        if types is None:
            return self.default_layer_types(settings, n_layers)
        if not isinstance(types, list) or len(types) != n_layers or not all(isinstance(name, str) for name in types):
            settings.reject("layer_types", hint=f"; expected the types of {n_layers} layers")
            return None
        return types

    def default_layer_types(self, settings: Settings, n_layers: int) -> list[str] | None:
        """Return the types of layers where the settings do not say them, as in configs of older versions."""
        return None

    def set_window(self, settings: Settings, spec: Json) -> None:
        """Set the sliding window of a spec: in the layers that `layer_types` names, or in all layers."""
        window, types = settings.count("sliding_window", None), self.layer_types(settings, spec["n_layers"])
        if window is None or window > spec["context_length"]:
            return
        windowed = {**spec["attention"], "window": window}
        if types is None:
            spec["attention"] = windowed
            return
        by_type = {SLIDING: windowed, FULL: spec["attention"]}
        if unknown := sorted(set(types) - by_type.keys()):
            settings.reject("layer_types", hint=f"; {unknown[0]!r} is not a type that gptzoo knows")
            return
        spec["attention"] = [by_type[name] for name in types]

    # ------------------------------------------------------------------ tensors

    def weights(self, spec: gptzoo.ModelSpec) -> Iterator[Weight]:
        yield from self.end_weights(spec)
        for layer in range(spec.n_layers):
            ours, theirs = f"blocks.{layer}", f"{self.layers}.{layer}"
            yield from self.attention_weights(spec, layer, f"{ours}.attention", f"{theirs}.{self.attention}")
            ffn = cast(FfnConfig, spec.per_layer("ffn")[layer])
            yield from self.ffn_weights(ffn, f"{ours}.ffn", f"{theirs}.{self.ffn}".removesuffix("."))
            for our_name, their_name in self.block_norms(spec).items():
                yield from self.norm(spec.norm.layer, f"{ours}.norm.{our_name}", f"{theirs}.{their_name}")

    def end_weights(self, spec: gptzoo.ModelSpec) -> Iterator[Weight]:
        """Yield the weights outside of the blocks."""
        embedding, head = f"{self.embed}.weight", f"{self.head}.weight"
        yield Weight("embed.weight", embedding, copies=(head,) if spec.tie_embeddings else ())
        if not spec.tie_embeddings:
            yield Weight("head.weight", head)
        if spec.architecture.head_bias:
            yield Weight("head.bias", f"{self.head}.bias")
        yield from self.norm(spec.norm.layer, "exit", self.exit)

    def block_norms(self, spec: gptzoo.ModelSpec) -> Mapping[str, str]:
        """Return our names of the norms of a block, and those in the checkpoint."""
        return self.norms

    def attention_weights(self, spec: gptzoo.ModelSpec, layer: int, ours: str, theirs: str) -> Iterator[Weight]:
        """Yield the weights of the attention of a layer."""
        config = cast(AttentionConfig, spec.per_layer("attention")[layer])
        qkv = tuple(f"{theirs}.{name}" for name in self.qkv)
        yield from self.linear(
            f"{ours}.qkv",
            qkv,
            bias=config.qkv_bias,
            convert=self.convert_qkv(spec, config),
            rows=self.qkv_rows(spec, config),
        )
        yield from self.linear(f"{ours}.out", f"{theirs}.{self.out}", bias=config.out_bias)
        if config.qk_norm is not None:
            for our_name, their_name in zip(("q_norm", "k_norm"), self.qk_norms, strict=True):
                yield from self.qk_norm_weights(spec, config, f"{ours}.{our_name}", f"{theirs}.{their_name}")

    def convert_qkv(self, spec: gptzoo.ModelSpec, config: AttentionConfig) -> Conversion:
        """Return the conversion of the tensors that hold queries, keys and values."""
        if not self.interleaved:
            return concatenate
        d_head, rotary_width = spec.dims.d_head, self.rotary_width(spec)
        return deinterleave_qkv(spec.n_heads, config.n_kv_heads, d_head, rotary_width)

    def qkv_rows(self, spec: gptzoo.ModelSpec, config: AttentionConfig) -> tuple[int, ...]:
        """Return the number of rows of each tensor that holds queries, keys or values."""
        n_rows = spec.n_heads, config.n_kv_heads, config.n_kv_heads
        widths = tuple(spec.dims.d_head * n for n in n_rows)
        return widths if len(self.qkv) == len(widths) else (sum(widths),)

    def rotary_width(self, spec: gptzoo.ModelSpec) -> int:
        """Return the number of rotated channels of a head."""
        positional: Any = spec.per_layer("positional")[0]
        return max(int(spec.dims.d_head * positional.fraction) // 2 * 2, 2)

    def qk_norm_weights(
        self, spec: gptzoo.ModelSpec, config: AttentionConfig, ours: str, theirs: str
    ) -> Iterator[Weight]:
        """Yield the weights of the norm of queries or keys."""
        if config.qk_norm is not None:
            yield from self.norm(config.qk_norm, ours, theirs)

    def ffn_weights(self, config: FfnConfig, ours: str, theirs: str) -> Iterator[Weight]:
        """Yield the weights of a feed-forward network."""
        up = tuple(f"{theirs}.{name}" for name in self.up)
        yield from self.linear(f"{ours}.{'gate_up' if config.type == 'glu' else 'up'}", up, bias=config.bias)
        yield from self.linear(f"{ours}.down", f"{theirs}.{self.down}", bias=config.bias)

    def linear(
        self,
        ours: str,
        theirs: str | tuple[str, ...],
        *,
        bias: bool,
        convert: Conversion = concatenate,
        rows: tuple[int, ...] = (),
    ) -> Iterator[Weight]:
        """Yield the weight of a linear layer, and its bias if it has one.

        rows: the number of rows of each source. Default: equal shares.
        """
        sources = (theirs,) if isinstance(theirs, str) else theirs
        for kind in ("weight", "bias") if bias else ("weight",):
            weight = Weight(f"{ours}.{kind}", tuple(f"{source}.{kind}" for source in sources), convert)
            yield replace(weight, shapes=gptzoo.source_rows(*rows)) if rows else weight

    def norm(self, config: gptzoo.NormLayer.Config, ours: str, theirs: str) -> Iterator[Weight]:
        """Yield the weights of a norm layer."""
        if getattr(config, "weight", True):
            if self.norm_offset:
                yield Weight(f"{ours}.weight", f"{theirs}.weight", add_one, inverse=subtract_one)
            else:
                yield Weight(f"{ours}.weight", f"{theirs}.weight")
        if getattr(config, "bias", False):
            yield Weight(f"{ours}.bias", f"{theirs}.bias")


class RopeByLayerType(LlamaLike):
    """Base class of families that may have other rotary frequencies in layers with a sliding window."""

    thetas: ClassVar[Mapping[str, float]] = {SLIDING: 10000.0, FULL: 10000.0}
    """Default bases of the rotary frequencies."""

    def read_positional(self, settings: Settings, fraction: float | None) -> Json | list[Json]:
        types = self.layer_types(settings, settings.count("num_hidden_layers", 32)) or [FULL]
        ropes = gptzoo.read_ropes(settings, {name: self.thetas.get(name, 10000.0) for name in types})
        return [ropes[name] for name in types]

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        by_type: Json = {}
        for name, positional in zip(settings["layer_types"], spec.per_layer("positional"), strict=True):
            by_type.setdefault(name, gptzoo.rope_parameters(positional, spec.context_length))
        ropes = {"rope_parameters": by_type}
        if theta := (by_type.get(FULL) or {}).get("rope_theta"):
            ropes["rope_theta"] = theta  # transformers 4 reads only this one
        return settings | ropes


class HeadNorms(LlamaLike):
    """Base class of families whose query and key norms have weights of their own for each head."""

    def qk_norm_weights(
        self, spec: gptzoo.ModelSpec, config: AttentionConfig, ours: str, theirs: str
    ) -> Iterator[Weight]:
        n_heads = spec.n_heads if ours.endswith("q_norm") else config.n_kv_heads
        for head in range(n_heads):
            yield self.head_norm(spec, f"{ours}.{head}.weight", theirs, head)

    def head_norm(self, spec: gptzoo.ModelSpec, ours: str, theirs: str, head: int) -> Weight:
        """Return the weight of the norm of one head."""
        return Weight(ours, f"{theirs}.norms.{head}.weight")


class StackedHeadNorms(HeadNorms):
    """Base class of families that keep these weights as one matrix, with a row for each head."""

    def head_norm(self, spec: gptzoo.ModelSpec, ours: str, theirs: str, head: int) -> Weight:
        order = deinterleave(1, spec.dims.d_head, self.rotary_width(spec)) if self.interleaved else concatenate
        n_heads = spec.n_heads if ours.split(".")[-3] == "q_norm" else self.n_kv_heads(spec)
        return Weight(
            ours,
            f"{theirs}.weight",
            lambda weight: order(weight[head]),
            shapes=lambda shape, weight: [(n_heads, *shape)],
        )

    def n_kv_heads(self, spec: gptzoo.ModelSpec) -> int:
        """Return the number of key/value heads."""
        return cast(AttentionConfig, spec.per_layer("attention")[0]).n_kv_heads
