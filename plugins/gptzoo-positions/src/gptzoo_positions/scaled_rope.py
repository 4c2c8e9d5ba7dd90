"""`scaled_rope`, the former name of `rope` with its options `fraction` and `scaling`."""

from __future__ import annotations

from pydantic import Field

import gptzoo


class ScaledRope(gptzoo.RotaryPositional):
    """Rotary position embedding, partial or with scaled frequencies.

    It is the built-in `rope` under an older name. Prefer `rope` in a new spec.
    """

    name = "scaled_rope"

    class Config(gptzoo.RotaryPositional.Config):
        theta: float = Field(default=10000.0, gt=1)
        """Base of the geometric series of wavelengths, before scaling. Must be above 1."""

        def canonical(self, dims: gptzoo.Dims) -> gptzoo.RotaryPositional.Config:
            rope: type[gptzoo.RotaryPositional.Config] = gptzoo.RotaryPositional.Config
            return rope.model_construct(theta=self.theta, fraction=self.fraction, scaling=self.scaling)

    config: Config
