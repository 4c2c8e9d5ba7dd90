"""Copies between the host and a GPU for which the host waits as rarely as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def tensor_on(device: torch.device, values: Sequence[Any] | np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers of the host as a tensor on the device.

    The host does not wait for the copy to a GPU, because it comes from pinned memory.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else torch.tensor(values, dtype=dtype)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(widest_float(device) if tensor.dtype == torch.float64 else tensor.dtype).to(device)


def widest_float(device: torch.device) -> torch.dtype:
    """Return the floating-point type for sums on a device: float64, or float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def on_host(*tensors: Tensor) -> list[Tensor]:
    """Return tensors as float64 in host memory, by one copy for which the host waits once.

    float64 holds every token id, and every value of the shorter floating-point types, exactly.
    """
    first = tensors[0]
    if first.device.type != "cuda":
        return [tensor.detach().cpu().double() for tensor in tensors]
    flat = torch.cat([tensor.detach().to(first.device, torch.float64).flatten() for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
