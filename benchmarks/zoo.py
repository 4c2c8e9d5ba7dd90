"""Train the quickstart model with each component of the packages under plugins/, for a few steps. Prints JSON.

    pip install -e plugins/gptzoo-…      # the packages to measure
    python benchmarks/zoo.py [--only mla xpos] [--workers 2] > zoo.json

Each variant changes one component of `configs/runs/quickstart.json`, and the settings that this component recommends.
Data order and steps are the same, and so are initial values with equal names and shapes, so differences are paired by
seed. The result shows that a component learns, and roughly how it compares at this tiny size. Learning rates are those
of the baseline unless a component recommends another, so it does not show which component is better.
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

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # one core per worker; the number of threads affects the last digits of losses

QUICKSTART = Path(__file__).parents[1] / "configs" / "runs" / "quickstart.json"
KINDS = ("attention", "positional", "norm", "norm_layer", "activation", "ffn")
OPTIONS: dict[str, dict[str, Any]] = {  # for components that do nothing special with their default options
    "scaled_rope": {"fraction": 0.5},
    "block_sparse": {"block_size": 16, "n_local": 2, "stride": 4},
    "moe": {"n_experts": 4, "n_active": 2},
}


def variants() -> dict[str, dict[str, Any]]:
    """Return run specs by the name of the variant: the baseline, then one component of a plugin at a time."""
    import gptzoo
    from gptzoo import registry

    specs = {"baseline": gptzoo.load_run_spec(QUICKSTART).resolved()}
    for kind in KINDS:
        for name, component in registry.registered(kind).items():
            if registry.current().origin(component).plugin != "builtin":
                field = "norm.layer" if kind == "norm_layer" else kind
                value: dict[str, Any] = {"type": name, **OPTIONS.get(name, {})}
                if kind == "norm":
                    value["layer"] = "rmsnorm"
                field = f"model.{field}"
                axes = {field: {"choices": {name: value}, "recommended": True}}
                (variant,) = gptzoo.variants(QUICKSTART, axes)
                specs[name] = variant.spec.resolved()
    return specs


def train(trial: tuple[str, dict[str, Any], list[str], int, Path]) -> tuple[str, int, float, int]:
    """Train one variant with one seed. Return its name, seed, validation loss and number of parameters."""
    name, variant, overrides, seed, out = trial
    import gptzoo

    spec = gptzoo.load_run_spec(variant, [*overrides, f"seed={seed}"])
    result = gptzoo.train(spec, out / name / f"seed-{seed}", resume=True, quiet=True)
    model = gptzoo.load(result.folder).model
    loss = result.metrics["val/loss"]
    print(f"{name:>16} seed {seed}  {loss:.4f}", file=sys.stderr, flush=True)
    return name, seed, loss, sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names of components to train, besides the baseline (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    arguments = parser.parse_args()
    all_variants = variants()
    chosen = {n: v for n, v in all_variants.items() if n == "baseline" or not arguments.only or n in arguments.only}
    short = [f"steps={arguments.steps}", f"eval.every={arguments.steps}", f"checkpoint.every={arguments.steps}"]
    trials = [(name, spec, short, seed, arguments.out) for name, spec in chosen.items() for seed in arguments.seeds]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        results = pool.map(train, trials, chunksize=1)
    print(json.dumps(report(results, recommended(all_variants), arguments, torch.__version__), indent=2))


def recommended(specs: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Return the settings that each variant has because its component recommends them."""
    import gptzoo
    from gptzoo.spec.components_in_spec import recommendations_in

    found = {name: recommendations_in(gptzoo.load_run_spec(spec)) for name, spec in specs.items()}
    return {name: [each.wanted for each in of] for name, of in found.items()}


def report(
    results: list[tuple[str, int, float, int]],
    settings: dict[str, list[str]],
    arguments: argparse.Namespace,
    torch_version: str,
) -> dict[str, Any]:
    """Compare each variant with the baseline."""
    losses = {(name, seed): loss for name, seed, loss, _ in results}
    rows = []
    for name, n_parameters in {name: n for name, _, _, n in results}.items():
        of_variant = [losses[name, seed] for seed in arguments.seeds]
        differences = [losses[name, seed] - losses["baseline", seed] for seed in arguments.seeds]
        rows.append(
            {
                "variant": name,
                "parameters": n_parameters,
                "recommended": settings[name],
                "losses": of_variant,
                "mean": statistics.mean(of_variant),
                "minus_baseline": statistics.mean(differences),
                "standard_deviation_of_difference": statistics.stdev(differences) if len(of_variant) > 1 else None,
            }
        )
    setting = {"steps": arguments.steps, "seeds": arguments.seeds, "torch": torch_version}
    return {**setting, "machine": platform.machine(), "threads": 1, "variants": rows}


if __name__ == "__main__":
    main()
