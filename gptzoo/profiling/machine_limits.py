"""The limits of a device, measured: FLOP/s of matrix products, and bytes per second of a copy."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from gptzoo.training.hardware.device import synchronize

_LONG_ENOUGH = 0.02  # seconds of a call whose rate is no longer limited by its start
_REPEATS = 5
_MAX_PRODUCT = 8192
_COPY_BYTES, _COPY_BYTES_CUDA = 2**28, 2**29  # much more than the caches hold
_MEMORY_FRACTION = 16  # a copy takes at most this part of the memory of a GPU


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the highest FLOP/s of square matrix products, of sizes that double until one takes long enough."""
    best, size = 0.0, 256
    while True:
        a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
        seconds = _shortest(device, lambda a=a, b=b: torch.mm(a, b))  # type: ignore[misc]
        best = max(best, 2 * size**3 / seconds)
        if seconds > _LONG_ENOUGH or size >= _MAX_PRODUCT:
            return best
        size *= 2


def copy_rate(device: torch.device) -> float:
    """Return the bytes per second of a large copy in the device's memory, reads and writes together."""
    n_bytes = _COPY_BYTES
    if device.type == "cuda":
        n_bytes = min(_COPY_BYTES_CUDA, torch.cuda.get_device_properties(device).total_memory // _MEMORY_FRACTION)
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / _shortest(device, lambda: target.copy_(source))


def _shortest(device: torch.device, call: Callable[[], object]) -> float:
    """Return the shortest time of a few calls: other load on the machine can only lengthen them."""
    call()
    shortest = float("inf")
    for _ in range(_REPEATS):
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        shortest = min(shortest, time.perf_counter() - started)
    return shortest
