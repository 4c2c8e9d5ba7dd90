"""Settings of config.json that describe a spec, under every name that families of `transformers` have for them.

An exporter writes only the settings that its importer reads, so names of other families do no harm.
"""

from __future__ import annotations

import math
from typing import Any

from gptzoo.interop.settings import ACTIVATIONS
from gptzoo.spec.model import ModelSpec

SLIDING, FULL = "sliding_attention", "full_attention"
"""Types of layers in `layer_types`."""

_PREFERRED_NAMES = ("gelu", "gelu_pytorch_tanh", "relu", "silu")


def common_settings(spec: ModelSpec) -> dict[str, Any]:
    """Return the settings of a spec whose components are canonical.

    A list over layers is described by its first entry that has the options. Options that no component has are left out.
    """
    attention, ffn = _first(spec, "attention", "n_kv_heads"), _first(spec, "ffn", "d_ff")
    values = [
        (spec.vocab_size, "vocab_size"),
        (spec.context_length, "max_position_embeddings n_positions"),
        (spec.d_model, "hidden_size n_embd"),
        (spec.n_layers, "num_hidden_layers n_layer"),
        (spec.n_heads, "num_attention_heads n_head"),
        (spec.d_head or spec.d_model // spec.n_heads, "head_dim"),
        (spec.tie_embeddings, "tie_word_embeddings"),
        (_option(spec.architecture, "init_std"), "initializer_range"),
        (_option(spec.architecture, "embed_dropout"), "embd_pdrop embedding_dropout"),
        (_option(spec.architecture, "embed_scale"), "embedding_multiplier"),
        (_option(spec.architecture, "logit_scale"), "logit_scale"),
        (_reciprocal(_option(spec.architecture, "logit_scale")), "logits_scaling"),
        (_option(attention, "n_kv_heads") or spec.n_heads, "num_key_value_heads num_kv_heads"),
        (_option(attention, "dropout"), "attention_dropout attn_pdrop"),
        (_option(attention, "qkv_bias"), "attention_bias use_qkv_bias"),
        (_option(spec.norm, "residual_scale"), "residual_multiplier"),
        (_option(spec.norm, "layer", "eps"), "rms_norm_eps layer_norm_eps layer_norm_epsilon norm_epsilon"),
        (_option(attention, "out_dropout"), "resid_pdrop residual_dropout hidden_dropout dropout"),
        (_option(ffn, "d_ff"), "intermediate_size n_inner ffn_dim ffn_hidden_size"),
        (_option(ffn, "bias"), "mlp_bias use_bias"),
    ]
    settings = {key: value for value, keys in values if value is not None for key in keys.split()}
    # Null is the default of these settings in some families only.
    for option, key in (("window", "sliding_window"), ("softcap", "attn_logit_softcapping"), ("clip", "clip_qkv")):
        settings[key] = _option(attention, option)
    settings["final_logit_softcapping"] = _option(spec.architecture, "logit_softcap")
    return settings | _score_scale(spec) | _window(spec) | _activation(spec) | _rope(spec)


def rope_parameters(positional: object, context_length: int) -> dict[str, Any]:
    """Return the `rope_parameters` of a positional `rope`. Empty if it is another positional."""
    if _option(positional, "type") != "rope":
        return {}
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": _option(positional, "theta")}
    if (fraction := _option(positional, "fraction")) != 1:
        parameters["partial_rotary_factor"] = fraction
    scaling: Any = _option(positional, "scaling")
    if scaling is not None:
        options = scaling.model_dump(mode="json")
        parameters["rope_type"] = options.pop("type")
        if "original_context_length" in options:
            options["original_max_position_embeddings"] = options.pop("original_context_length") or context_length
        parameters |= {key: value for key, value in options.items() if value is not None}
    return parameters


def _rope(spec: ModelSpec) -> dict[str, Any]:
    """Return the rotary settings of the first layer that rotates, in the spellings of transformers 5 and 4."""
    per_layer = (rope_parameters(positional, spec.context_length) for positional in spec.per_layer("positional"))
    parameters = next(filter(None, per_layer), None)
    if parameters is None:
        return {}
    settings = {"rope_parameters": parameters, "rope_theta": parameters["rope_theta"]}
    if "partial_rotary_factor" in parameters:
        settings["partial_rotary_factor"] = parameters["partial_rotary_factor"]
    if parameters["rope_type"] != "default":
        settings["rope_scaling"] = {key: value for key, value in parameters.items() if key != "rope_theta"}
    return settings


def _window(spec: ModelSpec) -> dict[str, Any]:
    windows = [_option(attention, "window") for attention in spec.per_layer("attention")]
    first = next(filter(None, windows), None)
    return {
        "sliding_window": first,
        "use_sliding_window": first is not None,
        "layer_types": [FULL if window is None else SLIDING for window in windows],
    }


def _score_scale(spec: ModelSpec) -> dict[str, Any]:
    default = spec.dims.d_head**-0.5 if spec.vocab_size else None
    scale = _option(_first(spec, "attention", "n_kv_heads"), "scale") or default
    return {} if scale is None else {"attention_multiplier": scale, "query_pre_attn_scalar": tidy(scale**-2)}


def _activation(spec: ModelSpec) -> dict[str, Any]:
    activation: Any = _option(_first(spec, "ffn", "d_ff"), "activation") or spec.activation
    options = activation.model_dump(mode="json")
    name = next((name for name in _PREFERRED_NAMES if ACTIVATIONS[name] == options), None)
    if name is None:
        name = next((name for name, known in ACTIVATIONS.items() if known == options), None)
    if name is None:
        return {}
    original = "gelu_new" if name == "gelu_pytorch_tanh" else name  # the name in GPT-2 and GPT-J
    return {"hidden_act": name, "hidden_activation": name, "activation": name, "activation_function": original}


def tidy(number: float) -> int | float:
    """Return a whole number without the rounding errors of how it was computed, and any other number unchanged."""
    return round(number) if math.isclose(number, round(number), rel_tol=1e-9) else number


def _reciprocal(value: float | None) -> float | None:
    return float(tidy(1 / value)) if value else None


def _first(spec: ModelSpec, field: str, option: str) -> object:
    """Return the first layer's config that has an option, or that of the first layer."""
    per_layer = spec.per_layer(field)
    return next((config for config in per_layer if hasattr(config, option)), per_layer[0])


def _option(config: object, *names: str) -> Any:  # noqa: ANN401  an option of any component
    """Return an option, or None if the component does not have it."""
    for name in names:
        config = getattr(config, name, None)
    return config
