"""A memory of fixed size: what linear attention keeps of keys and values, as one matrix for each head.

`memory` is (…, D, D + 1): the sum of the outer products of key features and values, and in its last column the sum of
the key features alone, by which what is read is normalised. It is computed in no less than float32, also where
autocast is on: small additions to a long sum would be lost in bfloat16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST = 1e-12  # nothing was written yet where the normaliser is below: what is read then is 0


def features(x: Tensor) -> Tensor:
    """Queries or keys -> what they are in the memory: elu + 1, which is positive."""
    return F.elu(x.to(torch.promote_types(x.dtype, torch.float32))) + 1


def read(queries: Tensor, memory: Tensor) -> Tensor:
    """Query features (…, T, D) -> (…, T, D): the mean of the values, weighted by likeness of query and key features."""
    sums = _product(queries, memory)
    return sums[..., :-1] / sums[..., -1:].clamp(min=_LEAST)


def written(keys: Tensor, values: Tensor, known: Tensor | None = None) -> Tensor:
    """What key features and values (…, T, D) add to a memory; with `known`, without what that already says of them.

    Tokens whose key features are 0 add nothing.
    """
    values = values.to(keys.dtype)
    if known is not None:
        values = values - read(keys, known)  # the delta rule
    return _product(keys.mT, F.pad(values, (0, 1), value=1.0))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product in the precision of its factors."""
    if not torch.amp.is_autocast_available(a.device.type):  # such as the meta device
        return a @ b
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
