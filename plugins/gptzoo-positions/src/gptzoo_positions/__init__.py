"""Positional encodings for gptzoo: learned score biases, and rotary embeddings for longer contexts.

- `t5`, `kerple` and `fire` add a learned bias to the attention scores.
- `xpos` rotates queries and keys, as the built-in `rope` does. `scaled_rope` is another name of `rope`.
"""

from __future__ import annotations

import gptzoo
from gptzoo import RopeScaling
from gptzoo_positions.fire import Fire
from gptzoo_positions.kerple import Kerple
from gptzoo_positions.scaled_rope import ScaledRope
from gptzoo_positions.t5 import T5
from gptzoo_positions.xpos import XPos

__all__ = [
    "T5",
    "Fire",
    "Kerple",
    "RopeScaling",
    "ScaledRope",
    "XPos",
]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [T5, Kerple, Fire, ScaledRope, XPos]
