"""Train variants and compare their losses, as `gptzoo ablate` does. Usage: python docs/ablation.py [STEPS]"""

import sys
from statistics import fmean

import gptzoo

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
base = gptzoo.load_run_spec("configs/runs/ablation-base.json", [f"steps={steps}"])
axes = {"model.positional": list(gptzoo.registered("positional")), "model.norm": "*", "model.n_heads": [3, 4]}
variants = gptzoo.variants(base, axes, mode="one_at_a_time")
for exclusion in variants.exclusions:
    print("excluded:", dict(exclusion.choices), exclusion.reason)
losses = {}
for variant in variants:
    runs = [variant.spec.model_copy(update={"seed": seed}) for seed in (1, 2)]
    results = [gptzoo.train(run, f"runs/{variant.name}-{run.seed}", resume=True, quiet=True) for run in runs]
    losses[variant.name] = [result.metrics["val/loss"] for result in results]
for name, values in sorted(losses.items(), key=lambda item: fmean(item[1])):
    print(f"{name:12}  {fmean(values):.4f}  {fmean(values) - fmean(losses[variants.baseline]):+.4f}")
