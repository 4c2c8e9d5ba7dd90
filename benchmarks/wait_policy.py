"""The cost of how OpenMP threads wait for work: whole commands on a quiet machine, and several at a time.

    python -m benchmarks.wait_policy [--rounds 5] [--workers 1 2 3 4] [--out wait-policy.json]

A thread that spins while it waits is faster on a quiet machine, and takes time from other processes on a busy one. The
commands are those that a user types, from the start of the process to its end:

"train"     gptzoo train RUN --set steps=STEPS
"sample"    gptzoo sample FOLDER --prompt The --max-new-tokens TOKENS, with the model of the first training run

The settings take turns in each round, in another order each time, so that other load affects all of them. With n
workers, n equal commands start at once, and the time is that until all have ended. A ratio to the setting "passive",
which the command line has today, is computed for each round; reported are the median and the range. The machine should
have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.statistics import ratios
from benchmarks.harness.turns import collect, take_turns

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
SETTINGS: dict[str, dict[str, str]] = {
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "passive, short spin": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "20000"},
    "passive, long spin": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "200000"},
    "active": {"OMP_WAIT_POLICY": "ACTIVE"},
}
REFERENCE = "passive"


def seconds_of(command: Sequence[str], setting: Mapping[str, str], n_workers: int, folder: Path) -> float:
    """Return the seconds from the start of `n_workers` equal commands to the end of the last. {out} is a new folder."""
    environment = {**os.environ, **setting}
    started = time.perf_counter()
    processes = []
    with tempfile.TemporaryFile(dir=folder) as errors:
        for _ in range(n_workers):
            out = tempfile.mkdtemp(dir=folder)
            arguments = [sys.executable, "-m", "gptzoo", *(argument.format(out=f"{out}/run") for argument in command)]
            process = subprocess.Popen(arguments, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)
            processes.append(process)
        codes = [process.wait() for process in processes]
        seconds = time.perf_counter() - started
        if any(codes):
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} ended with {codes}: {errors.read().decode()}")
    return seconds


def measure(command: Sequence[str], n_workers: int, n_rounds: int, folder: Path) -> dict[str, Any]:
    """Time a command with each setting in each round."""
    calls = {name: partial(seconds_of, command, setting, n_workers, folder) for name, setting in SETTINGS.items()}
    seconds = collect(take_turns(calls, n_rounds))
    results = {}
    for name, values in seconds.items():
        to_reference = ratios(values, seconds[REFERENCE])
        results[name] = {
            "seconds": round(statistics.median(values), 2),
            f"/ {REFERENCE}": round(statistics.median(to_reference), 3),
            "range": [round(min(to_reference), 3), round(max(to_reference), 3)],
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=ROOT / "configs/runs/quickstart.json", help="run spec to train")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="change a field of the run spec")
    parser.add_argument("--steps", type=int, default=300, help="training steps")
    parser.add_argument("--tokens", type=int, default=120, help="tokens to generate")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4], help="equal commands at a time")
    parser.add_argument("--out", type=Path, default=RESULTS / "wait-policy.json", help="result file")
    arguments = parser.parse_args()
    overrides = [f"steps={arguments.steps}", *arguments.overrides]
    train = ["train", str(arguments.run), "--out", "{out}", *(f"--set={override}" for override in overrides)]
    results: dict[str, Any] = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
        "run": {"spec": arguments.run.name, "overrides": overrides, "tokens": arguments.tokens},
        "settings": SETTINGS,
        "workers": {},
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = folder / "model"
        seconds_of([argument.replace("{out}", str(model)) for argument in train], {}, 1, folder)  # also fills the cache
        sample = ["sample", str(model), "--prompt", "The", "--max-new-tokens", str(arguments.tokens)]
        for n_workers in arguments.workers:
            measured = results["workers"][str(n_workers)] = {}
            for name, command in (("train", train), ("sample", sample)):
                measured[name] = measure(command, n_workers, arguments.rounds, folder)
                print(json.dumps({f"{name}, {n_workers} at a time": measured[name]}, indent=1), flush=True)
                arguments.out.write_text(json.dumps(results, indent=1) + "\n")  # after each, in case it is stopped


if __name__ == "__main__":
    main()
