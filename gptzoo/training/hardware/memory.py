"""How much memory a process may still take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

# Of cgroups 2 and 1: what may be used, what is, and of that the pages of files, which give way.
_NAMES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_bytes(device: torch.device) -> int:
    """Of the device, or of the host for the CPU: what is free there, or would be if caches gave way."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return host_bytes()


def host_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """What the kernel says is available, or the limit of a container where that is nearer."""
    return min([_of_kernel(proc), *_of_containers(proc, cgroups)])


def _of_kernel(proc: Path) -> int:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:  # not Linux: half of all there is, for others need some too
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _of_containers(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each group of processes that this one is in has left; a group without a limit says nothing."""
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in groups):
        if controllers not in ("", "memory"):
            continue
        root = cgroups / controllers
        inside = root / path.lstrip("/")
        # Seen from inside a container its group may be the root itself, whatever the path says.
        for place in [inside, *inside.parents]:
            yield from _left_in(place)
            if place == root:
                break


def _left_in(group: Path) -> Iterator[int]:
    for limit, usage, cache in _NAMES:
        try:
            allowed, used = (group / limit).read_text().strip(), int((group / usage).read_text())
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:
            continue
        if allowed != "max":
            yield max(0, int(allowed) - used + int(statistics.get(cache, 0)))
