"""What an ablation costs beside its trials, and how fast variants are enumerated, as JSON.

    python benchmarks/ablation.py [--trials 24] [--steps 200] [--workers 2] > benchmarks/results/ablation-cpu.json

`gptzoo ablate` with tiny trials of one core each. The time of a step is what the trial's own metrics say; the ideal is
their sum over the number of workers. What is held out is a page, for evaluation is no step; samples are off. The wall
time is that of the whole command, the import of torch and the plan included. Of the trials but the first of each
worker: `start_seconds` is from the runner's claim, which it lays just before it starts the trial, to the birth of the
metrics file, when data, model and optimizer are ready and evaluation and steps begin; `beside_steps_per_trial_s` is the
median from the claim to the end, the steps not counted: starting, two evaluations of a page, a checkpoint.
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
GRID = {
    "model.attention": "*",
    "model.positional": "*",
    "model.norm": ["pre_ln", "post_ln"],
    "model.ffn": "*",
    "model.activation": "*",
    "model.n_heads": [2, 3, 4, 8],
    "model.dropout": [0.0, 0.1, 0.2],
    "optimizer.lr": [0.001, 0.003, 0.01],
}
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
        **command(arguments.trials, arguments.steps, arguments.workers),
        "enumeration": enumeration(),
    }
    print(json.dumps(result, indent=2))


def command(n_trials: int, n_steps: int, n_workers: int) -> dict[str, Any]:
    """The wall time of `gptzoo ablate` against what its trials say of their steps."""
    import gptzoo
    from gptzoo.training.run.metrics_file import read

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
        words = [sys.executable, "-m", "gptzoo", "ablate", str(folder / "ablation.json"), "--out", str(folder / "out")]
        started = time.monotonic()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - started
        trials = sorted((folder / "out" / "trials").iterdir(), key=lambda trial: (trial / "run.json").stat().st_mtime)
        steps, starts, besides = 0.0, [], []
        for trial in trials:
            rows = read(trial / "metrics.jsonl")
            own = sum(BATCH * LENGTH / row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
            steps += own
            claimed = (trial / "claim.lock").stat().st_mtime
            starts.append(birth(trial / "metrics.jsonl") - claimed)
            besides.append((trial / "status.json").stat().st_mtime - claimed - own)
    ideal = steps / n_workers
    return {
        "wall_s": round(wall, 2),
        "own_step_time_over_workers_s": round(ideal, 2),
        "ratio": round(wall / ideal, 3),
        "start_seconds": {
            "median": round(median(starts[n_workers:]), 3),
            "maximum": round(max(starts[n_workers:]), 3),
        },
        "beside_steps_per_trial_s": round(median(besides[n_workers:]), 3),
    }


def birth(file: Path) -> float:
    """When the file was made, in seconds of the epoch; Python's own stat does not tell on Linux."""
    return float(subprocess.run(["stat", "--format=%.9W", file], capture_output=True, check=True).stdout)


def enumeration() -> dict[str, Any]:
    """Points of a grid that are read, checked, hashed and named in a second, by one process."""
    import gptzoo

    base = json.loads(TINY.read_text())
    run = {"model": base, "steps": 1}
    gptzoo.variants(run, GRID, mode="one_at_a_time")
    started = time.perf_counter()
    found = gptzoo.variants(run, GRID)
    seconds = time.perf_counter() - started
    n_points = len(found) + len(found.exclusions)
    return {"points": n_points, "variants": len(found), "per_second": round(n_points / seconds)}


if __name__ == "__main__":
    main()
