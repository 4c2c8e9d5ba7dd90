"""Translation of the rotary settings of a config.json, in the spellings of transformers 4 and 5."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gptzoo.interop.settings import Settings

_REQUIRED = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}
"""The numbers that transformers requires, for each kind of scaling that gptzoo has too."""

_OURS = {"original_max_position_embeddings": "original_context_length"}
"""gptzoo's names of numbers where they differ."""


def read_rope(settings: Settings, *, theta: float = 10000.0, fraction: float | None = None) -> dict[str, Any]:
    """Return the positional `rope` that the settings describe, as JSON.

    transformers 5 writes everything into `rope_parameters`. Older versions write `rope_theta`,
    `partial_rotary_factor` and, for scaled frequencies, `rope_scaling`.

    theta: the family's default.
    fraction: the family's default for the rotated fraction of a head. None: the family rotates whole heads only.
    """
    settings.require("rope_interleaved", False)  # in SmolLM's config.json
    top_theta, top_fraction = settings.number("rope_theta", None), _read_fraction(settings, fraction)
    read = {}
    for key in ("rope_parameters", "rope_scaling"):
        if settings.value(key) is not None:
            options = settings.nested(key)
            if top_theta is not None:
                options.require("rope_theta", top_theta, None)
            read[key] = _read_options(options, theta=top_theta or theta, fraction=top_fraction)
    if not read:
        return {"type": "rope", "theta": top_theta or theta, "fraction": top_fraction or 1.0}
    if len(read) == 2 and read["rope_parameters"] != read["rope_scaling"]:
        settings.reject("rope_scaling", hint=", because rope_parameters has other values")
    return next(iter(read.values()))


def read_ropes(settings: Settings, thetas: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return the positional `rope` of each type of layer, as JSON.

    `rope_parameters` may have an object for each type, as in Gemma 3. Otherwise all types have the same positional.

    thetas: the default base of the frequencies of each type of layer.
    """
    options = settings.nested("rope_parameters")
    if not any(isinstance(options.value(name), dict) for name in thetas):
        return {name: read_rope(settings, theta=theta) for name, theta in thetas.items()}
    top_theta = settings.number("rope_theta", None)  # for objects without one
    ropes = {name: _read_options(options.nested(name), theta=top_theta or theta) for name, theta in thetas.items()}
    options.reject_unread()
    return ropes


def _read_options(options: Settings, *, theta: float, fraction: float | None = None) -> dict[str, Any]:
    """Return the positional that one `rope_parameters` or `rope_scaling` object describes, as JSON."""
    rope: dict[str, Any] = {
        "type": "rope",
        "theta": options.number("rope_theta", None) or theta,
        "fraction": _read_fraction(options, fraction) or 1.0,
    }
    old_name = options.value("type")
    name = options.value("rope_type", old_name or "default")
    if name in _REQUIRED:
        rope["scaling"] = _read_scaling(name, options)
    elif name != "default":
        options.reject("rope_type" if options.value("rope_type") is not None else "type")
    options.reject_unread(["max_position_embeddings"])  # transformers copies it here from the top level
    return rope


def yarn_mscale(factor: float, mscale: float) -> float:
    """Return DeepSeek's factor 0.1 mscale ln(factor) + 1, by which YaRN sharpens attention."""
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def _read_fraction(settings: Settings, default: float | None) -> float | None:
    """Return the rotated fraction of a head. `default` is None in families that rotate whole heads only."""
    if default is not None:
        return settings.number("partial_rotary_factor", None) or default
    settings.require("partial_rotary_factor", 1.0, None)
    return None


def _read_scaling(name: str, options: Settings) -> dict[str, Any]:
    scaling: dict[str, Any] = {"type": name}
    for key in _REQUIRED[name]:
        scaling[_OURS.get(key, key)] = options.required_number(key)
    if name == "yarn":
        for key in ("original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"):
            if (value := options.number(key, None)) is not None:
                scaling[_OURS.get(key, key)] = value
        scaling["truncate"] = options.flag("truncate", True)
        mscale, mscale_all_dim = options.number("mscale", None), options.number("mscale_all_dim", None)
        if mscale and mscale_all_dim and "attention_factor" not in scaling:  # DeepSeek
            factor = scaling["factor"]
            scaling["attention_factor"] = yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
    if "original_context_length" in scaling:
        scaling["original_context_length"] = int(scaling["original_context_length"])
    return scaling
