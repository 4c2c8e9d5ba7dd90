"""Every component of the packages under plugins/ in the quickstart model, cut short, beside the part it replaces: JSON.

    pip install -e plugins/gptzoo-…      # whichever shall be measured
    python benchmarks/zoo.py [--only mla xpos] [--workers 2] > zoo.json

Each variant changes one part of `configs/runs/quickstart.json` and nothing else: same data order, learning rate and
steps, and the same initial values where names and shapes agree. So a difference is paired by seed. It tells that a part
learns, and roughly how it compares at this tiny size and at this one learning rate; it does not tell which is better.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a worker; the losses do depend on it, in their last digits

QUICKSTART = Path(__file__).parents[1] / "configs" / "runs" / "quickstart.json"
KINDS = ("attention", "positional", "norm", "norm_layer", "activation", "ffn")
OPTIONS: dict[str, dict[str, Any]] = {  # where the defaults would show nothing of the part
    "scaled_rope": {"fraction": 0.5},
    "block_sparse": {"block_size": 16, "n_local": 2, "stride": 4},
    "moe": {"n_experts": 4, "n_active": 2},
}


def variants() -> dict[str, list[str]]:
    """Overrides by name: the baseline, then one component of a plugin at a time."""
    from gptzoo import registry

    found: dict[str, list[str]] = {"baseline": []}
    for kind in KINDS:
        for name, component in registry.registered(kind).items():
            if registry.current().origin(component).plugin != "builtin":
                field = "norm.layer" if kind == "norm_layer" else kind
                value: dict[str, Any] = {"type": name, **OPTIONS.get(name, {})}
                if kind == "norm":
                    value["layer"] = "rmsnorm"
                found[name] = [f"model.{field}={json.dumps(value)}"]
    return found


def trial(job: tuple[str, list[str], int, Path]) -> tuple[str, int, float, int]:
    """Train one variant with one seed: its validation loss and its parameters."""
    name, overrides, seed, out = job
    import gptzoo

    spec = gptzoo.load_run_spec(QUICKSTART, [*overrides, f"seed={seed}"])
    result = gptzoo.train(spec, out / name / f"seed-{seed}", resume=True, quiet=True)
    model = gptzoo.load(result.folder).model
    loss = result.metrics["val/loss"]
    print(f"{name:>16} seed {seed}  {loss:.4f}", file=sys.stderr, flush=True)
    return name, seed, loss, sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of components; the baseline comes always")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    arguments = parser.parse_args()
    chosen = {n: o for n, o in variants().items() if n == "baseline" or not arguments.only or n in arguments.only}
    short = [f"steps={arguments.steps}", f"eval.every={arguments.steps}", f"checkpoint.every={arguments.steps}"]
    jobs = [(name, [*o, *short], seed, arguments.out) for name, o in chosen.items() for seed in arguments.seeds]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        done = pool.map(trial, jobs, chunksize=1)
    print(json.dumps(report(done, arguments, torch.__version__), indent=2))


def report(done: list[tuple[str, int, float, int]], arguments: Any, torch_version: str) -> dict[str, Any]:
    losses = {(name, seed): loss for name, seed, loss, _ in done}
    rows = []
    for name, n_parameters in {name: n for name, _, _, n in done}.items():
        own = [losses[name, seed] for seed in arguments.seeds]
        differences = [losses[name, seed] - losses["baseline", seed] for seed in arguments.seeds]
        rows.append(
            {
                "variant": name,
                "parameters": n_parameters,
                "losses": own,
                "mean": statistics.mean(own),
                "minus_baseline": statistics.mean(differences),
                "standard_deviation_of_difference": statistics.stdev(differences) if len(own) > 1 else None,
            }
        )
    setting = {"steps": arguments.steps, "seeds": arguments.seeds, "torch": torch_version}
    return {**setting, "machine": platform.machine(), "threads": 1, "variants": rows}


if __name__ == "__main__":
    main()
