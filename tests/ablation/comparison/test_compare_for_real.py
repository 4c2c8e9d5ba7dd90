"""`gptzoo compare` in its own process, with real trials that are interrupted and continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

RUN: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "stories", "n_stories": 40},
    "batch_size": 4,
    "steps": 40,
    "eval": {"every": 40},
    "checkpoint": {"every": 10},
    "device": "cpu",
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gptzoo", "compare", "run.json", "--set", "optimizer.lr=0.01", *arguments]


@pytest.mark.slow
def test_a_comparison_that_was_interrupted_continues_and_then_trains_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(RUN))
    arguments = command("--seeds", "2", "--json", "--exit-code")
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while not list(tmp_path.glob("comparisons/*/trials/*/status.json")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode in (4, 10)  # 10: it ended before the signal
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    result = json.loads(done.stdout)
    assert (done.returncode, result["verdict"]) == (10, "better"), done.stderr
    assert len(result["a"]["values"]) == len(result["b"]["values"]) == 2
    (folder,) = tmp_path.glob("comparisons/*")
    written = {file: file.stat().st_mtime_ns for file in folder.glob("trials/*/*") if file.is_file()}
    again = subprocess.run(command("--json"), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert {file: file.stat().st_mtime_ns for file in folder.glob("trials/*/*") if file.is_file()} == written
