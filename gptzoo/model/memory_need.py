"""A check that a model fits into memory, before any of it is asked for.

Without it, a model that is far too large is filled for minutes, until the system kills the process.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gptzoo.errors import InputError
from gptzoo.utils.machine_memory import total_bytes
from gptzoo.utils.units import scaled

CPU = torch.device("cpu")


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of the parameters and buffers of a model, which may be on the meta device."""
    return n_bytes([*model.parameters(), *model.buffers()])


def n_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of all tensors together."""
    return sum(tensor.nbytes for tensor in tensors)


def check_fits(needed: int, device: torch.device, purpose: str, advice: str = "Choose a smaller model") -> None:
    """Raise InputError if `needed` bytes are more than the memory of the device.

    purpose: what needs them, for the error message.
    advice: what to change, for the error message.
    """
    if needed <= (available := total_bytes(device)):
        return
    place = "this machine" if device.type == "cpu" else f"device {device}"
    raise InputError(
        f"{purpose} needs about {scaled(needed)}B of memory, and {place} has {scaled(available)}B. {advice}; "
        "gptzoo train and gptzoo build try it anyway with --allow-oversize (in Python: allow_oversize=True)"
    )
