"""Building and installing the pretended CUDA device (`device.cpp`)."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("device.cpp")
GPU = "NVIDIA pretended"
TOTAL_MEMORY = 80 * 2**30

_SYNC_DEBUG_MODES = ("default", "warn", "error")
_sync_debug_mode = 0  # index of `_SYNC_DEBUG_MODES`


def compiler() -> str | None:
    """Return the C++ compiler, or None if there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def build(kind: str = "cuda") -> Path:
    """Compile the device `cuda` or `mps`, which takes some seconds, unless the cache folder has it for this source."""
    torch_folder = _torch_folder()
    version = (torch_folder / "version.py").read_bytes()
    key = hashlib.sha256(SOURCE.read_bytes() + version + f"{torch_folder} {kind}".encode()).hexdigest()[:16]
    folder = Path(os.environ.get("GPTZOO_CACHE") or Path.home() / ".cache" / "gptzoo").expanduser()
    library = folder / f"pretended-{kind}-{key}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        target = Path(temporary) / library.name
        includes = [torch_folder / "include", torch_folder / "include/torch/csrc/api/include"]
        libraries = torch_folder / "lib"
        command = [str(compiler()), "-shared", "-fPIC", "-O0", "-std=c++20", "-w", *(f"-I{path}" for path in includes)]
        command += ["-DPRETENDED_MPS"] if kind == "mps" else []
        command += [str(SOURCE), "-o", str(target), f"-L{libraries}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{libraries}"]
        subprocess.run(command, check=True)
        target.replace(library)
    return library


def install() -> None:
    """Make the device available to torch. Call it before torch is imported, because torch looks for devices once."""
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported already, so it has no pretended CUDA device")
    library = ctypes.CDLL(str(build()))
    import torch

    from pretended_cuda import graphs

    library.listen(_on_wait)
    generator = torch.Generator("cuda")
    constants: dict[str, Any] = {
        "_is_in_bad_fork": False,
        "_lazy_init": None,
        "current_device": 0,
        "device_count": 1,
        "empty_cache": None,
        "get_device_capability": (9, 0),
        "get_device_name": GPU,
        "get_device_properties": _Properties,
        "init": None,
        "is_available": True,
        "is_bf16_supported": True,
        "is_initialized": True,
        "max_memory_allocated": 2**30,
        "mem_get_info": (TOTAL_MEMORY // 2, TOTAL_MEMORY),
        "memory_allocated": 2**30,
        "reset_peak_memory_stats": None,
        "set_device": None,
        "synchronize": None,
    }
    for name, value in constants.items():
        setattr(torch.cuda, name, lambda *args, _value=value, **options: _value)
    functions: dict[str, Any] = {
        "get_rng_state": lambda *device: generator.get_state(),
        "get_sync_debug_mode": lambda: _sync_debug_mode,
        "manual_seed": generator.manual_seed,
        "manual_seed_all": generator.manual_seed,
        "set_rng_state": lambda state, *device: generator.set_state(state),
        "set_sync_debug_mode": _set_sync_debug_mode,
    }
    for name, function in functions.items():
        setattr(torch.cuda, name, function)
    graphs.install()


def install_mps() -> None:
    """Make a pretended MPS device available to torch. Call it before torch is imported."""
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported already, so it has no pretended MPS device")
    library = ctypes.CDLL(str(build("mps")))
    import torch

    library.listen(_on_wait)
    generator = torch.Generator("mps")
    torch.backends.mps.is_macos_or_newer = lambda *version: True
    functions: dict[str, Any] = {
        "driver_allocated_memory": lambda: 2**30,
        "get_rng_state": lambda *device: generator.get_state(),
        "manual_seed": generator.manual_seed,
        "set_rng_state": lambda state, *device: generator.set_state(state),
        "synchronize": lambda: None,
    }
    for name, function in functions.items():
        setattr(torch.mps, name, function)

    def attention(q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, **options: Any) -> Any:
        is_causal = options.pop("is_causal", False)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype).masked_fill(~attn_mask, float("-inf"))
        step_by_step = torch.ops.aten._scaled_dot_product_attention_math  # torch chooses a kernel that only a Mac has
        return step_by_step(q, k, v, attn_mask, dropout_p, is_causal, None, **options)[0]

    torch.nn.functional.scaled_dot_product_attention = attention


class _Properties:
    """The properties of the device, as those of an H100."""

    name = GPU
    major, minor = 9, 0
    total_memory = TOTAL_MEMORY
    multi_processor_count = 132
    warp_size = 32


def _set_sync_debug_mode(mode: int | str) -> None:
    global _sync_debug_mode
    _sync_debug_mode = _SYNC_DEBUG_MODES.index(mode) if isinstance(mode, str) else mode


@ctypes.CFUNCTYPE(ctypes.c_int)
def _on_wait() -> int:
    if _sync_debug_mode == 1:
        warnings.warn("called a synchronizing CUDA operation", stacklevel=2)
    return int(_sync_debug_mode == 2)


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")  # does not import it
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
