"""What an ablation costs beside its trials: wall time against the trials' own step time, as JSON.

    python benchmarks/ablation.py [--trials 24] [--steps 200] [--workers 2] > ablation.json

Tiny trials with one core each. The time of a step is what the trial's own metrics say; the ideal is their sum over the
number of workers. What is held out for evaluation is a page, for evaluation is no step; pictures and samples are off.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = Path(__file__).parents[1] / "configs" / "models" / "tiny.json"


@dataclass(frozen=True)
class Seed:
    """A trial: the tiny model with a seed of its own."""

    name: str
    spec: Any


def main() -> None:
    import torch

    import gptzoo
    from gptzoo.ablation.local import LocalExecutor
    from gptzoo.ablation.runner import Runner
    from gptzoo.training.metrics_file import read

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    text = "\n\n".join(gptzoo.registered("corpus")["stories"].Config().build().documents("train"))
    spec: dict[str, Any] = {
        "model": str(TINY),
        "corpus": {"type": "text"},
        "batch_size": 12,
        "steps": arguments.steps,
        "eval": {"every": 10**6},
        "checkpoint": {"every": 10**6},
        "device": "cpu",
    }
    shape = ["model.context_length=64", "model.vocab_size=null"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "val.txt").write_text(text[:2000])
        (folder / "train.txt").write_text(text[2000:])
        spec["corpus"] |= {"path": str(folder / "train.txt"), "val_path": str(folder / "val.txt")}
        trials = [
            Seed(f"seed-{seed}", gptzoo.load_run_spec(spec, [*shape, f"seed={seed}"]))
            for seed in range(1, arguments.trials + 1)
        ]
        executor = LocalExecutor.Config(n_workers=arguments.workers).build()
        started = time.monotonic()
        states = Runner(trials, folder, executor).run()
        wall = time.monotonic() - started
        assert set(states.values()) == {"done"}, states
        steps = 0.0
        for trial in trials:
            rows = read(folder / "trials" / trial.name / "metrics.jsonl")
            steps += sum(12 * 64 / row["tokens_per_second"] for row in rows if "tokens_per_second" in row)
    ideal = steps / arguments.workers
    setting = {"trials": len(trials), "steps": arguments.steps, "workers": arguments.workers}
    result = {
        "wall_s": round(wall, 2),
        "own_step_time_over_workers_s": round(ideal, 2),
        "ratio": round(wall / ideal, 3),
        "beside_steps_per_trial_s": round((wall - ideal) * arguments.workers / len(trials), 3),
    }
    print(json.dumps({**setting, "torch": torch.__version__, "machine": platform.machine(), **result}, indent=2))


if __name__ == "__main__":
    main()
