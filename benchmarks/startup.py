"""The time until a command does its work, on top of the import of torch.

    python benchmarks/startup.py [--rounds 5] [--out benchmarks/results/startup-cpu.json]

Each command is a process of its own, as a user starts it. Commands take turns with `import torch`, and each figure is
from the same round. The ratio is that of the whole command to `import torch`. Reported are medians and ranges.

"help"    gptzoo --help, which does not import torch
"build"   gptzoo build of each configuration in configs/models
"train"   gptzoo train of a tiny run up to its first step, with tokens in the cache: the time of a whole run of one step

Seconds are CPU seconds of the process and its children, so that other load on the machine affects them less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RUN: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "text", "path": "text.txt", "val_fraction": 0.2},
    "tokenizer": "byte",
    "batch_size": 2,
    "steps": 1,
}
TORCH = [sys.executable, "-c", "import torch"]
GPTZOO = [sys.executable, "-m", "gptzoo"]


def cpu_seconds(command: Sequence[str], folder: Path) -> float:
    """Return the CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands() -> dict[str, list[str]]:
    """Return the commands by name. {number} is the number of the round."""
    configs = sorted((ROOT / "configs" / "models").glob("*.json"))
    return {
        "help": [*GPTZOO, "--help"],
        **{f"build {config.stem}": [*GPTZOO, "build", str(config)] for config in configs},
        "train": [*GPTZOO, "train", "run.json", "--out", "run-{number}", "--no-plot"],
    }


def measure(n_rounds: int, folder: Path) -> dict[str, Any]:
    """Time each command in each round, after `import torch`."""
    (folder / "text.txt").write_text("To be, or not to be, that is the question. " * 400)
    (folder / "run.json").write_text(json.dumps(RUN))
    torch_seconds: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in commands()}
    seconds: dict[str, list[float]] = {name: [] for name in commands()}
    for number in range(-1, n_rounds):  # the first round fills the caches
        for name, command in commands().items():
            reference = cpu_seconds(TORCH, folder)
            own = cpu_seconds([argument.format(number=number) for argument in command], folder)
            if number >= 0:
                torch_seconds.append(reference)
                ratios[name].append(own / reference)
                seconds[name].append(own if name == "help" else own - reference)
    return {
        "import torch": _summary(torch_seconds),
        "help": _summary(seconds.pop("help")),
        "on top of import torch": {name: _summary(values) for name, values in seconds.items()},
        "ratio to import torch": {
            name: {
                "median": round(statistics.median(values), 2),
                "range": [round(min(values), 2), round(max(values), 2)],
            }
            for name, values in ratios.items()
        },
    }


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return {"seconds": round(statistics.median(values), 2), "range": [round(min(values), 2), round(max(values), 2)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    machine = {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        results = measure(arguments.rounds, Path(name))
    text = json.dumps({"machine": machine, **results}, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
