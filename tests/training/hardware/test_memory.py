"""What memory is left, from files as kernels write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gptzoo.training.hardware.memory import available_bytes, host_bytes

GIB = 2**30


def kernel(root: Path, available: int, group: str) -> Path:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 999 kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\n")
    (root / "proc" / "self" / "cgroup").write_text(group)
    return root / "proc"


def group(place: Path, files: dict[str, int | str], cache: str, cached: int = 0) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (place / name).write_text(f"{value}\n")
    (place / "memory.stat").write_text(f"anon 5\n{cache} {cached}\n")


def test_without_a_container_it_is_what_the_kernel_says(tmp_path: Path) -> None:
    assert host_bytes(kernel(tmp_path, 7 * GIB, "0::/\n"), tmp_path / "none") == 7 * GIB


def test_the_nearest_limit_of_a_container_counts_and_pages_of_files_give_way(tmp_path: Path) -> None:
    proc = kernel(tmp_path, 64 * GIB, "0::/outer/inner\n")
    cgroups = tmp_path / "cgroup"
    group(cgroups, {"memory.max": "max", "memory.current": 50 * GIB}, "inactive_file")
    group(cgroups / "outer", {"memory.max": 8 * GIB, "memory.current": 5 * GIB}, "inactive_file", 1 * GIB)
    group(cgroups / "outer" / "inner", {"memory.max": 6 * GIB, "memory.current": 1 * GIB}, "inactive_file")
    assert host_bytes(proc, cgroups) == 4 * GIB


@pytest.mark.parametrize("path", ["/pod/self", "/"])
def test_the_older_kind_of_container_counts_too(tmp_path: Path, path: str) -> None:
    proc = kernel(tmp_path, 64 * GIB, f"5:devices:/\n4:memory:{path}\n0::/\n")
    files: dict[str, int | str] = {"memory.limit_in_bytes": 4 * GIB, "memory.usage_in_bytes": 3 * GIB}
    group(tmp_path / "cgroup" / "memory", files, "total_inactive_file", 1 * GIB)
    assert host_bytes(proc, tmp_path / "cgroup") == 2 * GIB


def test_a_container_that_is_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    proc = kernel(tmp_path, 64 * GIB, "0::/\n")
    group(tmp_path / "cgroup", {"memory.max": 1 * GIB, "memory.current": 2 * GIB}, "inactive_file")
    assert host_bytes(proc, tmp_path / "cgroup") == 0


def test_this_machine_has_some() -> None:
    assert 2**20 < available_bytes(torch.device("cpu")) < 2**50
