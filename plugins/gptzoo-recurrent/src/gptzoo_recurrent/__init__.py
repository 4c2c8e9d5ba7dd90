"""Recurrent attention for gptzoo: `"attention": "linear"`, `"retention"` or `"gated_delta"`.

A KV cache keeps every key and value. These attentions keep one matrix per head instead, which each token writes to and
reads from. So the cost of decoding a token does not depend on the number of tokens before it. Training computes chunks
of tokens as matrix products.

| file | content |
|---|---|
| `linear.py`, `retention.py`, `gated_delta.py` | one component each |
| `recurrent.py` | the base class: projections, heads and state |
| `accumulate.py`, `delta_rule.py` | the two recurrences, in chunks and token by token |
| `chunks.py` | chunks of a sequence, and the decay between their tokens |
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
