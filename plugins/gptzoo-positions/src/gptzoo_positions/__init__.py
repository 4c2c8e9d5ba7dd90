"""Positional encodings for gptzoo: learned score biases, and rotary embeddings for longer contexts.

- `t5`, `kerple` and `fire` add a learned bias to the attention scores.
- `scaled_rope` and `xpos` rotate queries and keys, as the built-in `rope` does.
- `linear`, `ntk`, `yarn` and `llama3` are frequency scalings for `scaled_rope`. They belong to the kind `rope_scaling`,
  which this package adds.
"""

from __future__ import annotations

import gptzoo
from gptzoo_positions.fire import Fire
from gptzoo_positions.kerple import Kerple
from gptzoo_positions.scaled_rope import ScaledRope
from gptzoo_positions.scaling import LinearScaling, Llama3Scaling, NtkScaling, RopeScaling, YarnScaling
from gptzoo_positions.t5 import T5
from gptzoo_positions.xpos import XPos

__all__ = [
    "T5",
    "Fire",
    "Kerple",
    "LinearScaling",
    "Llama3Scaling",
    "NtkScaling",
    "RopeScaling",
    "ScaledRope",
    "XPos",
    "YarnScaling",
]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [T5, Kerple, Fire, ScaledRope, XPos, LinearScaling, NtkScaling, YarnScaling, Llama3Scaling]
