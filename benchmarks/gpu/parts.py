"""Parts of a command: processes with a time limit, whose results are kept in one JSON file."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MIN_SECONDS = 10.0  # a part is left out if less is left
CPU_FACTOR = 6  # a CPU compiles for longer
TAIL = 3000  # characters of the output that are kept of a part that failed


@dataclass(frozen=True)
class Part:
    """A process. Its result is the JSON on its last line, or for pytest, the numbers of its summary."""

    name: str
    command: Sequence[str]  # arguments of Python
    seconds: float  # time limit on a GPU
    cpu_command: Sequence[str]  # the same with tiny shapes, or on a pretended device
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """The machine on which the parts run."""

    device: str

    def describe(self) -> dict[str, Any]:
        """Return the device, the versions and the commit, which the results depend on."""
        import torch

        described: dict[str, Any] = {
            "device": self.device,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "commit": self._commit(),
        }
        if self.device == "cpu":
            return {**described, "name": f"{platform.machine()}, {os.cpu_count()} cores; tiny shapes"}
        if not torch.cuda.is_available():
            sys.exit("torch finds no CUDA device here. To try the parts without one, use --device cpu.")
        properties = torch.cuda.get_device_properties(0)
        return {
            **described,
            "name": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }

    def results_folder(self) -> Path:
        """Return $OUT if it is set, else the folder of the committed results, or a build folder for tiny shapes."""
        if folder := os.environ.get("OUT"):
            return Path(folder)
        return ROOT / "benchmarks" / "results" if self.device == "cuda" else ROOT / "build"

    def _commit(self) -> str:
        command = ["git", "rev-parse", "--short", "HEAD"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        return result.stdout.strip() or "unknown"


def run_parts(parts: Sequence[Part], machine: Machine, out: Path, deadline: float, *, again: bool = False) -> bool:
    """Run the parts that have no result of this machine and commit. Return True if all have one and none failed."""
    described = machine.describe()
    results: dict[str, Any] = {"machine": described, "parts": {}}
    if out.is_file():
        previous = json.loads(out.read_text())
        if previous["machine"] == described:
            results = previous
    for part in parts:
        status = results["parts"].get(part.name, {}).get("status")
        if status in ("passed", "failed") and not again:
            print(f"{part.name}: {status} before")
            continue
        remaining = deadline - time.monotonic()
        if remaining < min(MIN_SECONDS, part.seconds):
            results["parts"].setdefault(part.name, {"status": "left out", "reason": "no time was left"})
        else:
            limit = part.seconds * (CPU_FACTOR if machine.device == "cpu" else 1)
            results["parts"][part.name] = run_part(part, machine, min(limit, remaining))
        _write(out, results)
        entry = results["parts"][part.name]
        print(f"{part.name}: {entry['status']} {json.dumps(entry.get('result', ''))}", flush=True)
    return all(results["parts"].get(part.name, {}).get("status") == "passed" for part in parts)


def run_part(part: Part, machine: Machine, seconds: float) -> dict[str, Any]:
    """Run a part and return its entry in the results."""
    command = [sys.executable, *(part.cpu_command if machine.device == "cpu" else part.command)]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, **part.environment},
        start_new_session=True,  # a part that takes too long ends with all processes that it started
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        status = "passed" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = "stopped after its time limit"
    entry: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - started, 1)}
    if (result := result_of(output)) is not None:
        entry["result"] = result
    if status != "passed":
        entry["output"] = output[-TAIL:]
    return entry


def result_of(output: str) -> Any:
    """Return the last JSON object or the last summary of pytest in the output, or None."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                return json.loads(line)
            except json.JSONDecodeError:
                continue
        if counts := re.findall(r"(\d+) (passed|failed|errors?|skipped)", line):
            return {name: int(number) for number, name in counts}
    return None


def _write(out: Path, results: dict[str, Any]) -> None:
    """Replace the file in one step, so that an interruption leaves the results so far."""
    out.parent.mkdir(parents=True, exist_ok=True)
    incomplete = out.with_suffix(".incomplete")
    incomplete.write_text(json.dumps(results, indent=1) + "\n")
    incomplete.replace(out)
