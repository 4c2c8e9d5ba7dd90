"""The machine and the software of a measurement."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "transformers", "x-transformers", "litgpt", "numpy")
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MKL_NUM_THREADS")
SAME = ("processor", "cores", "capability", "threads", "device", "torch")
"""The entries that must be equal for results to be continued."""


def environment(device: str) -> dict[str, Any]:
    """Return what times depend on: processor, device, threads, versions, commit and the load of the machine."""
    import torch

    on_gpu = torch.device(device).type == "cuda"
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 2),
    }


def different(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the entries that differ so that results of both cannot be compared, as `NAME: BEFORE, now NOW`."""
    return [f"{name}: {before.get(name)}, now {now[name]}" for name in SAME if before.get(name) != now[name]]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None
