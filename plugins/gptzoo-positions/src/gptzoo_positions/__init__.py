"""More positions for gptzoo: score biases that are learned, and RoPE that reaches further.

- `t5`, `kerple`, `fire` add a learned bias to the attention scores;
- `scaled_rope` and `xpos` turn queries and keys, as the built-in `rope` does;
- `linear`, `ntk`, `yarn`, `llama3` are of a kind of this package, `rope_scaling`, that `scaled_rope` refers to.
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
