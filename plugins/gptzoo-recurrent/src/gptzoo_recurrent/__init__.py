"""Attention with a state of constant size for gptzoo: `"attention": "linear"`, `"retention"` or `"gated_delta"`.

Where a cache keeps every key and value, these keep one matrix a head, which each token writes to and reads from. A
thousand tokens or a million: decoding one more costs the same. Training runs in chunks, as products of matrices.

| file | what |
|---|---|
| `linear.py`, `retention.py`, `gated_delta.py` | a component each |
| `recurrent.py` | what they share: projections, state, heads |
| `accumulate.py`, `delta_rule.py` | the two ways to write to a state, in chunks and token by token |
| `chunks.py` | how a sequence is cut, and what is forgotten between its tokens |
| `convolution.py` | the short convolution of `gated_delta` |
"""

from __future__ import annotations

import gptzoo
from gptzoo_recurrent.gated_delta import GatedDelta
from gptzoo_recurrent.linear import Linear
from gptzoo_recurrent.retention import Retention


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [Linear, Retention, GatedDelta]
