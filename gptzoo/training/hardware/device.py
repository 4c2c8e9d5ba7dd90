"""Which device a run uses, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from gptzoo.errors import InputError

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU. Raises InputError for a device that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is not one that torch knows; use auto, cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):  # mps has no float64, which losses are summed in
        raise InputError(f"device {name!r}: gptzoo computes on cpu and cuda alone; use one of them, or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: torch sees no CUDA device here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    n = torch.get_num_threads()
    return f"{device} ({n} thread{'' if n == 1 else 's'})"


def choose_precision(name: str, device: torch.device) -> str:
    """One of fp32, tf32, bf16, fp16. Raises InputError where the device cannot do what is asked for."""
    if name == "auto":
        # A GPU from before Ampere, such as a T4, computes in bf16 only by way of fp32, and slower than in that.
        own_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if own_bf16 else "fp32"
    if name == "bf16" and not _has_bf16(device):
        raise InputError(f"precision bf16: the {device.type} here has no bf16 arithmetic; use fp32")
    if name == "tf32" and device.type != "cuda":
        raise InputError(f"precision tf32: is of CUDA devices, and this run is on {device.type}; use fp32")
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Matrix products in bf16 or fp16, weights and sums in fp32; nothing for fp32 and tf32."""
    if precision not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


def undisturbed_rng(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Inside, torch's own random numbers may be seeded for a run on `device`; afterwards they go on as before.

    A GPU is not touched for a run on the CPU. Where CUDA is in use, `torch.manual_seed` seeds every GPU.
    """
    in_use = device.type == "cuda" or torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if in_use else ()
    return torch.random.fork_rng(devices, device_type="cuda")


@contextlib.contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Inside, matrix products of float32 tensors are rounded to TF32 for `tf32`, and exact for all else."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
