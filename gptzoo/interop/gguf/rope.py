"""Scaled rotary frequencies in GGUF files.

Linear scaling and YaRN are metadata. The scaling of Llama 3 is a tensor, `rope_freqs.weight`, of the factors by which
frequencies are divided. llama.cpp does not keep the three numbers that the factors follow from.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gptzoo.components.part import Part
from gptzoo.errors import Problem, SpecError
from gptzoo.interop.gguf.metadata import GgufMetadata
from gptzoo.spec.model import ModelSpec

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


def has_frequency_factors(spec: ModelSpec) -> bool:
    """Return True if a model scales frequencies as Llama 3 does."""
    return _llama3_rope(spec) is not None


def frequency_factors(spec: ModelSpec) -> Tensor | None:
    """Return the factors (R/2,) by which a model divides its frequencies. None: it has no scaling of this kind."""
    rope: Any = _llama3_rope(spec)
    if rope is None:
        return None
    frequencies = _frequencies(rope.theta, max(int(spec.dims.d_head * rope.fraction) // 2 * 2, 2))
    factors: Tensor = frequencies / rope.scaling.build().scale(frequencies, rope.theta)
    return factors.float()


def _llama3_rope(spec: ModelSpec) -> Part.Config | None:
    ropes = spec.per_layer("positional")
    return next((rope for rope in ropes if getattr(getattr(rope, "scaling", None), "type", None) == "llama3"), None)


def _frequencies(theta: float, width: int) -> Tensor:
    return theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)


def _find_llama3(file: GgufMetadata, factors: Tensor, theta: float, width: int) -> dict[str, Any] | None:
    """Return the scaling of Llama 3 that has these factors. Raises SpecError if there is none.

    Between the low and the high frequencies, 1 / factor is linear in the number of rotations within the original
    context. Two such frequencies determine the line. The result has low_freq_factor 1, as all published models.
    """
    factors, frequencies = factors.double(), _frequencies(theta, width)
    factor = float(f"{factors.max():.6g}")
    if factor == 1:
        return None
    kept = (1 / factors - 1 / factor) / (1 - 1 / factor)  # 1: the frequency is kept, 0: it is divided by the factor
    if len(kept) == len(frequencies):
        high, original = _fit(kept, frequencies / (2 * math.pi))
        rotations = frequencies / (2 * math.pi) * original
        if torch.allclose(kept, ((rotations - 1) / (high - 1)).clamp(0, 1), atol=1e-3):
            low = {"low_freq_factor": 1.0, "high_freq_factor": high}
            return {"rope_type": "llama3", "factor": factor, **low, "original_max_position_embeddings": original}
    reason = "the factors are not those of Llama 3's scaling"
    raise SpecError([Problem(file.content.file.name, FREQUENCY_FACTORS, reason)])


def _fit(kept: Tensor, per_token: Tensor) -> tuple[float, int]:
    """Return high_freq_factor and the original context length. `per_token`: rotations per token."""
    between = ((kept > 1e-4) & (kept < 1 - 1e-4)).nonzero().flatten().tolist()
    if len(between) >= 2:
        first, last = between[0], between[-1]
        slope = float((kept[first] - kept[last]) / (per_token[first] - per_token[last]))
        offset = float(slope * per_token[first] - kept[first])  # kept = slope * rotations per token - offset
        return float(f"{1 + 1 / offset:.4g}"), round(slope / offset)
    if between:
        return 4.0, round(float((kept[between[0]] * 3 + 1) / per_token[between[0]]))
    divided = per_token[kept < 0.5]
    original = max(int(1 / float(divided.max())), 1)
    return min(4.0, original * float(per_token[kept >= 0.5].min())) if len(divided) < len(kept) else 4.0, original
