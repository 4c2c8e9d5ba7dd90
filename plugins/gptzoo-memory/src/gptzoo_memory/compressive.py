"""The compressive memory of Infini-attention: linear attention's sums over keys and values, one matrix per head.

A memory is (…, D, D + 1). The first D columns hold the sum of the outer products of key features and values. The last
column holds the sum of the key features, which normalises what is read. All of it is computed in float32 or wider, also
under autocast, because bfloat16 would lose small additions to a long sum.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MIN_NORMALISER = 1e-12  # a smaller normaliser means an empty memory, from which 0 is read


def features(x: Tensor) -> Tensor:
    """Map queries or keys to their features elu(x) + 1, which are positive, in float32 or wider."""
    return F.elu(x.to(torch.promote_types(x.dtype, torch.float32))) + 1


def read(queries: Tensor, memory: Tensor) -> Tensor:
    """Return the mean (…, T, D) of the stored values for query features (…, T, D), weighted by query . key."""
    sums = _matmul(queries, memory)
    return sums[..., :-1] / sums[..., -1:].clamp(min=_MIN_NORMALISER)


def memory_update(keys: Tensor, values: Tensor, memory: Tensor | None = None) -> Tensor:
    """Return the addition to a memory that stores values (…, T, D) under key features (…, T, D).

    With `memory`, apply the delta rule: store the difference between the values and those that the memory holds under
    these keys. Tokens whose key features are 0 add nothing.
    """
    values = values.to(keys.dtype)
    if memory is not None:
        values = values - read(keys, memory)
    return _matmul(keys.mT, F.pad(values, (0, 1), value=1.0))


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices in their own precision, also under autocast."""
    if not torch.amp.is_autocast_available(a.device.type):  # such as the meta device
        return a @ b
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
