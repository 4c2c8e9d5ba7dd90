"""The device and the precision of a run."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from gptzoo.errors import InputError

_SUPPORTED = "auto, cpu, cuda, cuda:N and mps"
_USE_CPU = 'Use cpu: "device": "cpu" in a spec, or --device cpu'
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is CUDA if available, else the CPU. Raises InputError.

    MPS has to be asked for: gptzoo is not tested on a Mac's GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r}: unknown. Supported devices: {_SUPPORTED}") from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"device {name!r}: gptzoo does not support it. Supported devices: {_SUPPORTED}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"device {name!r}: torch finds no MPS device, the GPU of a Mac. {_USE_CPU}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: torch finds no CUDA device. {_USE_CPU}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices. Indices start at 0"
        )
    return device


def describe_device(device: torch.device) -> str:
    """Return the device with its model name, or with its number of threads on a CPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    n = torch.get_num_threads()
    return f"{device} ({n} thread{'' if n == 1 else 's'})"


def choose_precision(name: str, device: torch.device) -> str:
    """Return fp32, tf32, bf16 or fp16. Raises InputError if the device does not support the precision."""
    if name == "auto":
        # GPUs older than Ampere, such as a T4, emulate bf16 in fp32 and are slower than in fp32.
        native_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if native_bf16 else "fp32"
    if name == "bf16" and not _has_bf16(device):
        raise InputError(f"precision bf16: this {device.type} has no bf16 arithmetic. Use fp32")
    if name == "tf32" and device.type != "cuda":
        raise InputError(f"precision tf32: needs a CUDA device, and this run is on {device.type}. Use fp32")
    return name


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Return torch's autocast for bf16 and fp16, and a context without effect for fp32 and tf32."""
    if precision not in _AUTOCAST:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def preserve_rng_state(device: torch.device) -> Iterator[None]:
    """Restore the state of the global generators after the block, so that a run may seed them.

    `torch.manual_seed` seeds every GPU if CUDA is in use. A run on the CPU does not initialise CUDA.
    """
    in_use = device.type == "cuda" or torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if in_use else ()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices, device_type="cuda"):
            yield
    finally:
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextlib.contextmanager
def float32_matmul_precision(precision: str) -> Iterator[None]:
    """Round float32 matrix products to TF32 in the block if `precision` is `tf32`, else compute them exactly."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
