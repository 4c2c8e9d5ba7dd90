"""The 16-bit types in which the weights of a loaded model are stored, and are saved again where that loses nothing.

A loaded model computes in float32, with the same values. Weights that change, by training for example, need float32.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture

NARROW_DTYPES = (torch.bfloat16, torch.float16)


def narrow_dtypes(tensors: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
    """Return the types of the tensors that have 16 bits, by name."""
    return {name: tensor.dtype for name, tensor in tensors.items() if tensor.dtype in NARROW_DTYPES}


def in_stored_dtypes(model: Architecture) -> dict[str, Tensor]:
    """Return the state dict of a model, in which tensors have the types of the file that they come from."""
    state = model.state_dict()
    return {name: narrowed(tensor, model.stored_dtypes.get(name, tensor.dtype)) for name, tensor in state.items()}


def common_dtype(model: Architecture) -> torch.dtype:
    """Return the 16-bit type in which most weights of a model are stored, or float32.

    It is float32, too, if any weight has changed since, so that its stored type would round it. Tensors of integers do
    not count.
    """
    sizes: Counter[torch.dtype] = Counter()
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        dtype = model.stored_dtypes.get(name, torch.float32)
        if narrowed(tensor, dtype).dtype != dtype:
            return torch.float32
        sizes[dtype] += tensor.numel()
    return sizes.most_common(1)[0][0]


def narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor in a type, or unchanged if the type would round its values."""
    if tensor.dtype == dtype or not tensor.is_floating_point():
        return tensor
    converted = tensor.to(dtype)
    return converted if torch.equal(converted.to(tensor.dtype), tensor) else tensor
