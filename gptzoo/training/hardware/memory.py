"""The memory that is available to this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

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


def available_host_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the smaller of what the kernel reports as available and what a container's limit leaves."""
    return min([_available_by_kernel(proc), *_available_by_cgroups(proc, cgroups)])


def _available_by_kernel(proc: Path) -> int:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:  # not Linux: assume half of all memory, because other processes need some too
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _available_by_cgroups(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yield the bytes left in each cgroup of this process that has a limit."""
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
            yield from _bytes_left_in(group)
            if group == root:
                break


def _bytes_left_in(group: Path) -> Iterator[int]:
    for limit_file, usage_file, cache in _CGROUP_FILES:
        try:
            limit, usage = (group / limit_file).read_text().strip(), int((group / usage_file).read_text())
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if limit != "max":
            yield max(0, int(limit) - usage + int(statistics.get(cache, 0)))
