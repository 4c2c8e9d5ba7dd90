"""The memory of this machine: what is available to this process, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")

# For cgroup v2 and v1: the file of the limit, the file of the usage, and the statistic of reclaimable page cache.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(device: torch.device) -> int:
    """Return the free bytes of a GPU, or for the CPU those of the host, reclaimable caches included."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_host_bytes()


def total_bytes(device: torch.device) -> int:
    """Return the bytes of a GPU, or for the CPU those that this process could use at most."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return total_host_bytes()


def available_host_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the smaller of what the kernel reports as available and what a container's limit leaves."""
    available = _meminfo(proc).get("MemAvailable")
    if available is None:  # not Linux: assume half of all memory, because other processes need some too
        available = _physical_bytes() // 2
    return min([available, *(limit.n_left for limit in _cgroup_limits(proc, cgroups))])


def total_host_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return the smaller of the host's memory, swap space included, and a container's limit."""
    meminfo = _meminfo(proc)
    total = meminfo["MemTotal"] + meminfo.get("SwapTotal", 0) if "MemTotal" in meminfo else _physical_bytes()
    return min([total, *(limit.n_bytes for limit in _cgroup_limits(proc, cgroups))])


def _meminfo(proc: Path) -> dict[str, int]:
    """Return the fields of the kernel's meminfo in bytes, or nothing on another system than Linux."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith(" kB")}


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class _Limit(NamedTuple):
    """The memory limit of one cgroup."""

    n_bytes: int
    n_left: int  # reclaimable page cache included


def _cgroup_limits(proc: Path, cgroups: Path) -> Iterator[_Limit]:
    """Yield the limit of each cgroup of this process that has one."""
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in groups):
        if controllers not in ("", "memory"):
            continue
        root = cgroups / controllers
        inside = root / path.lstrip("/")
        # A container may see its own cgroup as the root, whatever the path says.
        for group in [inside, *inside.parents]:
            yield from _limits_of(group)
            if group == root:
                break


def _limits_of(group: Path) -> Iterator[_Limit]:
    for limit_file, usage_file, cache in _CGROUP_FILES:
        try:
            limit, usage = (group / limit_file).read_text().strip(), int((group / usage_file).read_text())
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if limit != "max":
            yield _Limit(int(limit), max(0, int(limit) - usage + int(statistics.get(cache, 0))))
