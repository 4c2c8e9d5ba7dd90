"""Scaled rotary frequencies in GGUF files.

Linear scaling and YaRN are metadata. The scaling of Llama 3 is a tensor, `rope_freqs.weight`, of the factors by which
frequencies are divided. llama.cpp does not keep the three numbers that the factors follow from.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gptzoo.errors import SpecError
from gptzoo.interop.gguf.metadata import GgufMetadata

FREQUENCY_FACTORS = "rope_freqs.weight"
_LONGROPE = "rope_factors_long.weight"
_YARN = {
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
}


def read_scaling(file: GgufMetadata, theta: float, width: int) -> dict[str, Any] | None:
    """Return the setting `rope_scaling` that a file describes. None: frequencies are not scaled.

    theta, width: base of the frequencies, and number of rotated channels of a head.
    """
    kind = file.value("rope.scaling.type", "none")
    factor = file.number("rope.scaling.factor", 1.0)
    original = file.count("rope.scaling.original_context_length", None)
    # llama.cpp multiplies YaRN's own factor by this one.
    attention = file.number("rope.scaling.attn_factor", 1.0)
    betas = {name: file.number(key, None) for name, key in _YARN.items()}
    if file.has(_LONGROPE):
        return {"rope_type": "longrope"}
    if file.has(FREQUENCY_FACTORS):
        return _find_llama3(file, file.tensor(FREQUENCY_FACTORS).read(), theta, width)
    if kind == "none":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind != "yarn":
        return {"rope_type": kind, "factor": factor}  # the importer refuses it by its name
    scaling = {"rope_type": "yarn", "factor": factor}
    if original is not None:
        scaling["original_max_position_embeddings"] = original
    if attention != 1.0:
        scaling["attention_factor"] = attention * (0.1 * math.log(factor) + 1)
    return {**scaling, **{name: beta for name, beta in betas.items() if beta is not None}}


def frequency_factors(scaling: Any, theta: float, width: int) -> Tensor:  # noqa: ANN401  the Config of `llama3`
    """Return the factors (R/2,) by which `llama3` divides frequencies."""
    frequencies = _frequencies(theta, width)
    factors: Tensor = frequencies / scaling.build().scale(frequencies, theta)
    return factors


def _frequencies(theta: float, width: int) -> Tensor:
    return theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)


def _find_llama3(file: GgufMetadata, factors: Tensor, theta: float, width: int) -> dict[str, Any]:
    """Return the scaling of Llama 3 that has these factors. Raises SpecError if there is none.

    Between the low and the high frequencies, 1 / factor is linear in the number of rotations within the original
    context. Two such frequencies determine the line. All models have low_freq_factor 1.
    """
    factors, frequencies = factors.double(), _frequencies(theta, width)
    factor = float(f"{factors.max():.6g}")
    kept = (1 / factors - 1 / factor) / (1 - 1 / factor) if factor > 1 else torch.ones_like(factors)
    between = ((kept > 1e-4) & (kept < 1 - 1e-4)).nonzero().flatten()
    per_token = frequencies / (2 * math.pi)  # rotations
    high, original = 4.0, 8192
    if len(between) >= 2:
        first, last = between[0], between[-1]
        slope = float((kept[first] - kept[last]) / (per_token[first] - per_token[last]))
        offset = float(slope * per_token[first] - kept[first])  # kept = slope * rotations - offset
        high, original = float(f"{1 + 1 / offset:.4g}"), round(slope / offset)
    elif len(between) == 1:
        one = between[0]
        original = round(float((kept[one] * (high - 1) + 1) / per_token[one]))
    found = {"low_freq_factor": 1.0, "high_freq_factor": high, "original_max_position_embeddings": original}
    rotations = per_token * original
    expected = (1 / factor) * (1 - ((rotations - 1) / (high - 1)).clamp(0, 1)) + ((rotations - 1) / (high - 1)).clamp(0, 1)
    if len(factors) != len(frequencies) or not torch.allclose(1 / factors, expected, rtol=1e-3):
        file.reject("rope_freqs.weight", hint="; its factors are not those of Llama 3's scaling")
        file.require_all_read(frozenset())
        raise SpecError([])
    return {"rope_type": "llama3", "factor": factor, **found}
