"""A run in which nothing is wrong prints only lines of gptzoo."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import torchrun
from training.distributed.parallel_runs import DDP, FSDP

LINES = re.compile(
    r"cpu \(\d+ thread|held-out text: |micro-batch: |step \d+/12 |\S+: 12 steps, |loss curve: "
    r"|[\w' -]+: \d+ s$"  # on a busy machine: what takes long, such as "training one step: 2 s"
)


def unknown_lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.strip() and not LINES.match(line)]


def test_one_process_prints_no_warnings_of_libraries(spec_file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gptzoo", "train", str(spec_file), "--out", str(tmp_path / "one")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step 12/12" in result.stderr
    assert unknown_lines(result.stderr) == []


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [DDP, FSDP, {"tensor": 2}], ids=["ddp", "fsdp", "tensor"])
def test_two_processes_print_no_warnings_of_libraries(
    run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]
) -> None:
    run_spec["model"]["dropout"] = 0.0  # tensor parallelism allows none in attention
    errors = torchrun(2, {**run_spec, "parallel": parallel}, tmp_path / "two")
    assert "step 12/12" in errors
    assert unknown_lines(errors) == []
