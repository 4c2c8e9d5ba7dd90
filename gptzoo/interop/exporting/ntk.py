"""NTK scaling of rotary frequencies as a larger base, which every family with rotary positions can express."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gptzoo.components.positional import RotaryPositional
from gptzoo.components.rope_scaling import NtkScaling
from gptzoo.model.build import build_on_meta
from gptzoo.spec.model import ModelSpec


@dataclass(frozen=True)
class PlainBases:
    """A spec without NTK scaling, and the bases that take its place."""

    spec: ModelSpec
    thetas: tuple[float, ...]


def without_ntk(spec: ModelSpec) -> PlainBases:
    """Return the spec with the base theta * factor^(R / (R - 2)) in place of each NTK scaling.

    The frequencies are the same. A positional that rotates heads of several widths R keeps its scaling.
    """
    given = spec.positional
    configs: list[Any] = list(given) if isinstance(given, tuple | list) else [given]
    if not any(map(_has_ntk, configs)):
        return PlainBases(spec, ())
    widths = {width for positional in build_on_meta(spec).positionals for width in positional.rotary_dims}
    if len(widths) != 1:
        return PlainBases(spec, ())
    (width,) = widths
    plain = [_with_base(config, width, spec) if _has_ntk(config) else config for config in configs]
    thetas = dict.fromkeys(new.theta for new, old in zip(plain, configs, strict=True) if new is not old)
    positional = type(given)(plain) if isinstance(given, tuple | list) else plain[0]
    return PlainBases(spec.model_copy(update={"positional": positional}), tuple(thetas))


def _has_ntk(config: object) -> bool:
    return isinstance(config, RotaryPositional.Config) and isinstance(config.scaling, NtkScaling.Config)


def _with_base(config: RotaryPositional.Config, width: int, spec: ModelSpec) -> RotaryPositional.Config:
    assert config.scaling is not None
    rotated = config.build(spec.dims).rotated_width(width)
    growth = config.scaling.factor ** (rotated / (rotated - 2)) if rotated > 2 else 1.0
    return config.model_copy(update={"theta": config.theta * growth, "scaling": None})
