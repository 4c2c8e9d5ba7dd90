"""Available and total memory, read from files in the format of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gptzoo.utils.machine_memory import available_bytes, available_host_bytes, total_bytes, total_host_bytes

GIB = 2**30


def write_proc(root: Path, available: int, group: str) -> Path:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 999 kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\n")
    (root / "proc" / "self" / "cgroup").write_text(group)
    return root / "proc"


def write_cgroup(folder: Path, files: dict[str, int | str], cache: str, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{cache} {cached}\n")


def test_without_a_container_the_kernel_reports_the_available_memory(tmp_path: Path) -> None:
    assert available_host_bytes(write_proc(tmp_path, 7 * GIB, "0::/\n"), tmp_path / "none") == 7 * GIB


def test_the_tightest_cgroup_limit_counts_and_page_cache_is_reclaimable(tmp_path: Path) -> None:
    proc = write_proc(tmp_path, 64 * GIB, "0::/outer/inner\n")
    cgroups = tmp_path / "cgroup"
    write_cgroup(cgroups, {"memory.max": "max", "memory.current": 50 * GIB}, "inactive_file")
    write_cgroup(cgroups / "outer", {"memory.max": 8 * GIB, "memory.current": 5 * GIB}, "inactive_file", 1 * GIB)
    write_cgroup(cgroups / "outer" / "inner", {"memory.max": 6 * GIB, "memory.current": 1 * GIB}, "inactive_file")
    assert available_host_bytes(proc, cgroups) == 4 * GIB


@pytest.mark.parametrize("path", ["/pod/self", "/"])
def test_cgroup_v1_limits_count_too(tmp_path: Path, path: str) -> None:
    proc = write_proc(tmp_path, 64 * GIB, f"5:devices:/\n4:memory:{path}\n0::/\n")
    files: dict[str, int | str] = {"memory.limit_in_bytes": 4 * GIB, "memory.usage_in_bytes": 3 * GIB}
    write_cgroup(tmp_path / "cgroup" / "memory", files, "total_inactive_file", 1 * GIB)
    assert available_host_bytes(proc, tmp_path / "cgroup") == 2 * GIB


def test_a_cgroup_over_its_limit_has_no_memory_left(tmp_path: Path) -> None:
    proc = write_proc(tmp_path, 64 * GIB, "0::/\n")
    write_cgroup(tmp_path / "cgroup", {"memory.max": 1 * GIB, "memory.current": 2 * GIB}, "inactive_file")
    assert available_host_bytes(proc, tmp_path / "cgroup") == 0


def test_this_machine_has_available_memory() -> None:
    assert 2**20 < available_bytes(torch.device("cpu")) < 2**50


def test_the_total_memory_counts_swap_space_and_the_tightest_limit(tmp_path: Path) -> None:
    proc, cgroups = write_proc(tmp_path, 7 * GIB, "0::/inner\n"), tmp_path / "cgroup"
    (proc / "meminfo").write_text(f"MemTotal: {8 * 2**20} kB\nMemAvailable: 1 kB\nSwapTotal: {2 * 2**20} kB\nHuge: 3\n")
    assert total_host_bytes(proc, tmp_path / "none") == 10 * GIB
    write_cgroup(cgroups / "inner", {"memory.max": 6 * GIB, "memory.current": 5 * GIB}, "inactive_file")
    assert total_host_bytes(proc, cgroups) == 6 * GIB


def test_the_total_memory_of_this_machine_is_at_least_what_is_available() -> None:
    assert available_host_bytes() <= total_host_bytes() == total_bytes(torch.device("cpu"))
