"""Measure the overhead of an ablation over its trials. Prints JSON.

    python benchmarks/ablation.py [--trials 24] [--steps 200] [--workers 2] > benchmarks/results/ablation-cpu.json

The benchmark runs `gptzoo ablate` with tiny trials on one core each. The wall time is that of the complete command,
including the import of torch and the plan. It is compared with the time of all training steps, according to the metrics
of the trials, divided by the number of workers. The validation text is one page, because evaluation is not counted as
training; samples are off.

The first trial of each worker is left out of two further measurements:

start_seconds             from the runner's lock, taken just before it starts a trial, to the creation of metrics.jsonl,
                          when data, model and optimizer are ready
beside_steps_per_trial_s  from the lock to the end of the trial, without the steps: starting, two evaluations of a page
                          and a checkpoint (median)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = Path(__file__).parents[1] / "configs" / "models" / "tiny.json"
BATCH, LENGTH = 12, 64


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    result = {
        "trials": arguments.trials,
        "steps": arguments.steps,
        "workers": arguments.workers,
        "torch": torch.__version__,
        "machine": platform.machine(),
        **measure_command(arguments.trials, arguments.steps, arguments.workers),
    }
    print(json.dumps(result, indent=2))


def measure_command(n_trials: int, n_steps: int, n_workers: int) -> dict[str, Any]:
    """Measure the wall time of `gptzoo ablate` and the time of its training steps."""
    import gptzoo
    from gptzoo.training.run.metrics_file import read_metrics

    text = "\n\n".join(gptzoo.registered("corpus")["stories"].Config().build().documents("train"))
    base: dict[str, Any] = {
        "model": {**json.loads(TINY.read_text()), "context_length": LENGTH, "vocab_size": None},
        "corpus": {"type": "text", "path": "train.txt", "val_path": "val.txt"},
        "batch_size": BATCH,
        "steps": n_steps,
        "eval": {"every": 10**6},
        "checkpoint": {"every": 10**6},
        "device": "cpu",
    }
    spec = {
        "base": base,
        "axes": {"model.norm": ["pre_ln"]},
        "seeds": n_trials,
        "executor": {"type": "local", "n_workers": n_workers},
        "samples": False,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "val.txt").write_text(text[:2000])
        (folder / "train.txt").write_text(text[2000:])
        (folder / "ablation.json").write_text(json.dumps(spec))
        command = [
            sys.executable,
            "-m",
            "gptzoo",
            "ablate",
            str(folder / "ablation.json"),
            "--out",
            str(folder / "out"),
        ]
        started = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - started
        trials = sorted((folder / "out" / "trials").iterdir(), key=lambda trial: (trial / "run.json").stat().st_mtime)
        all_steps, starts, overheads = 0.0, [], []
        for trial in trials:
            rows = read_metrics(trial / "metrics.jsonl")
            steps = sum(BATCH * LENGTH / row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
            all_steps += steps
            locked = (trial / "claim.lock").stat().st_mtime
            starts.append(creation_time(trial / "metrics.jsonl") - locked)
            overheads.append((trial / "status.json").stat().st_mtime - locked - steps)
    ideal = all_steps / n_workers
    return {
        "wall_s": round(wall, 2),
        "own_step_time_over_workers_s": round(ideal, 2),
        "ratio": round(wall / ideal, 3),
        "start_seconds": {
            "median": round(median(starts[n_workers:]), 3),
            "maximum": round(max(starts[n_workers:]), 3),
        },
        "beside_steps_per_trial_s": round(median(overheads[n_workers:]), 3),
    }


def creation_time(file: Path) -> float:
    """Return the creation time of a file, in seconds since the epoch. Python's `os.stat` has none on Linux."""
    return float(subprocess.run(["stat", "--format=%.9W", file], capture_output=True, check=True).stdout)


if __name__ == "__main__":
    main()
