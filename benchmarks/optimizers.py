"""Muon compared with AdamW on a short quickstart run, each at its best learning rate. Prints JSON.

    python benchmarks/optimizers.py [--only muon] [--fused-matrices together] [--workers 2] > optimizers.json

Each optimizer runs with every seed at every learning rate of a grid with a factor of two, and is reported at the one
with the lowest mean loss. So neither is compared with a badly tuned baseline. Muon's updates have the size of AdamW's
(`adjust_lr: match_rms_adamw`), and its AdamW parameters use the same learning rate. The report says if the best value
is at an end of the grid, because a better one may lie beyond. Both optimizers get the same initial weights and data
order for a seed, so differences are paired by seed.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per worker; the last digits of the losses depend on it

QUICKSTART = Path(__file__).parents[1] / "configs" / "runs" / "quickstart.json"
GRIDS = {"adamw": (0.002, 0.004, 0.008, 0.016), "muon": (0.008, 0.016, 0.032, 0.064)}


def optimizer(name: str, lr: float, fused_matrices: str) -> dict[str, Any]:
    """Return the optimizer of a run spec."""
    muon = {"weight_decay": 0.1, "adjust_lr": "match_rms_adamw", "adamw_lr": lr, "fused_matrices": fused_matrices}
    return {"type": name, "lr": lr, **(muon if name == "muon" else {})}


def run_trial(trial: tuple[str, float, int, list[str], str, Path]) -> tuple[str, float, int, float]:
    """Train once; return the validation loss, which is infinite if the run diverged."""
    name, lr, seed, overrides, fused_matrices, out = trial
    import gptzoo

    chosen = json.dumps(optimizer(name, lr, fused_matrices))
    spec = gptzoo.load_run_spec(QUICKSTART, [f"optimizer={chosen}", *overrides, f"seed={seed}"])
    try:
        loss = gptzoo.train(spec, out / name / f"{lr:g}" / f"seed-{seed}", resume=True, quiet=True).metrics["val/loss"]
    except gptzoo.Diverged:
        loss = float("inf")
    print(f"{name:>16} lr {lr:<6g} seed {seed}  {loss:.4f}", file=sys.stderr, flush=True)
    return name, lr, seed, loss


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument(
        "--fused-matrices",
        choices=["separate", "together"],
        default="separate",
        help="Muon's treatment of matrices that share a parameter (together: as in the recorded results)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/optimizers"))
    arguments = parser.parse_args()
    n = arguments.steps
    overrides = [f"steps={n}", f"eval.every={n}", f"checkpoint.every={n}", "sample.max_new_tokens=0"]
    trials = [
        (name, lr, seed, overrides, arguments.fused_matrices, arguments.out)
        for name in arguments.only
        for lr in GRIDS[name]
        for seed in arguments.seeds
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        results = pool.map(run_trial, trials, chunksize=1)
    print(json.dumps(report(results, arguments, torch.__version__), indent=2))


def report(
    results: list[tuple[str, float, int, float]], arguments: argparse.Namespace, torch_version: str
) -> dict[str, Any]:
    """Return the losses of each optimizer at its best learning rate, and its mean loss at the others."""
    losses = {(name, lr, seed): loss for name, lr, seed, loss in results}
    rows = []
    for name in arguments.only:
        by_lr = {lr: [losses[name, lr, seed] for seed in arguments.seeds] for lr in GRIDS[name]}
        means = {lr: statistics.mean(values) for lr, values in by_lr.items()}
        best = min(means, key=means.__getitem__)
        rows.append(
            {
                "optimizer": name,
                "best_lr": best,
                "at_an_end_of_the_grid": best in (GRIDS[name][0], GRIDS[name][-1]),
                "losses": by_lr[best],
                "mean": means[best],
                "standard_deviation": statistics.stdev(by_lr[best]) if len(by_lr[best]) > 1 else None,
                "mean_by_lr": {f"{lr:g}": mean if math.isfinite(mean) else "diverged" for lr, mean in means.items()},
            }
        )
    setting = {"steps": arguments.steps, "seeds": arguments.seeds, "torch": torch_version}
    setting["fused_matrices"] = arguments.fused_matrices
    return {**setting, "machine": platform.machine(), "threads": 1, "optimizers": rows}


if __name__ == "__main__":
    main()
