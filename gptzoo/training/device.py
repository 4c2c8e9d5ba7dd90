"""Which device a run uses, and in which precision."""

from __future__ import annotations

import contextlib

import torch

from gptzoo.errors import InputError


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises InputError for a device that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is not one that torch knows; use auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: torch sees no CUDA device here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """`fp32` or `bf16`. Raises InputError where bf16 is asked for and the device cannot."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "bf16" and not _has_bf16(device):
        raise InputError(f"precision bf16: the {device.type} here has no bf16 arithmetic; use fp32")
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Matrix products in bf16, weights and sums in fp32; nothing for fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
