"""Measure how the final loss of a tiny run varies with its seed and with two changes of the model. Prints CSV.

    python benchmarks/seed_noise.py --out runs/seed-noise [--seeds 128] [--changed 16] > seed_noise.csv

The run is `tests/ablation/data/seed_noise_run.json`, and the loss that of the full validation pass at its end. The
baseline is trained with seeds 1 to --seeds; `naive` instead of `sdpa`, and `none` instead of `rope`, with seeds 1 to
--changed. The result is stored next to the spec, and tests of the statistics draw their ablations from it. Each run has
a folder in --out. A run that is done is not trained again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SPEC = Path(__file__).parents[1] / "tests" / "ablation" / "data" / "seed_noise_run.json"
CHANGES: dict[str, list[str]] = {"naive": ["model.attention=naive"], "none": ["model.positional=none"]}


def train(variant: str, seed: int, out: Path) -> float:
    """Train a variant with one seed, and return the validation loss at its end."""
    import gptzoo

    spec = gptzoo.load_run_spec(SPEC, [*CHANGES.get(variant, []), f"seed={seed}"])
    loss: float = gptzoo.train(spec, out / variant / f"seed-{seed}", resume=True, quiet=True).metrics["val/loss"]
    print(f"{variant:>8} seed {seed}  {loss:.6f}", file=sys.stderr, flush=True)
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=128)
    parser.add_argument("--changed", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print("variant,seed,loss")
    for variant, n_seeds in {"baseline": arguments.seeds, **dict.fromkeys(CHANGES, arguments.changed)}.items():
        for seed in range(1, n_seeds + 1):
            print(f"{variant},{seed},{train(variant, seed, arguments.out):.9f}", flush=True)


if __name__ == "__main__":
    main()
