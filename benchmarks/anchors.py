"""Validation losses to compare with published figures, each over several seeds. Prints JSON.

    python benchmarks/anchors.py shakespeare --text tinyshakespeare.txt    # nanoGPT's CPU setting, 3 seeds
    python benchmarks/anchors.py positions                                 # rope compared with no positions, 4 seeds

Each trial is a run folder under --out. Existing runs are resumed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import gptzoo

RUNS = Path(__file__).parent.parent / "configs" / "runs"


def losses(config: str, seeds: Sequence[int], overrides: Sequence[str], out: Path) -> list[float]:
    """Train one run per seed; return the last validation losses, each by a full pass."""
    values = []
    for seed in seeds:
        spec = gptzoo.load_run_spec(RUNS / config, [*overrides, f"seed={seed}"])
        loss = gptzoo.train(spec, out / f"seed-{seed}", resume=True, quiet=True).metrics["val/loss"]
        print(f"{out.name} seed {seed}: {loss:.4f}", file=sys.stderr, flush=True)
        values.append(loss)
    return values


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the losses with their mean and standard deviation."""
    return {
        "losses": list(values),
        "mean": statistics.mean(values),
        "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
    }


def shakespeare(text: Path, seeds: Sequence[int], out: Path) -> dict[str, Any]:
    """Train nanoGPT's published CPU setting. nanoGPT itself has 1.898, 1.891 and 1.908 by the same full pass."""
    overrides = [f"corpus.path={text.resolve()}"]
    return summary(losses("shakespeare-char.json", seeds, overrides, out / "shakespeare"))


def positions(seeds: Sequence[int], steps: int, out: Path) -> dict[str, Any]:
    """Train a short quickstart with rope and without positions; return the difference in standard deviations."""
    results = {}
    for positional in ("rope", "none"):
        overrides = [f"model.positional={positional}", f"steps={steps}"]
        results[positional] = summary(losses("quickstart.json", seeds, overrides, out / f"positions-{positional}"))
    difference = results["none"]["mean"] - results["rope"]["mean"]
    pooled = (sum(results[p]["standard_deviation"] ** 2 for p in results) / 2) ** 0.5
    return {**results, "steps": steps, "difference": difference, "in_standard_deviations": difference / pooled}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("anchor", choices=["shakespeare", "positions"])
    parser.add_argument("--text", type=Path, help="tinyshakespeare.txt")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/anchors"))
    arguments = parser.parse_args()
    if arguments.anchor == "shakespeare":
        if arguments.text is None:
            parser.error("shakespeare needs --text tinyshakespeare.txt")
        result = shakespeare(arguments.text, arguments.seeds or [1, 2, 3], arguments.out)
    else:
        result = positions(arguments.seeds or [1, 2, 3, 4], arguments.steps, arguments.out)
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    print(json.dumps({"anchor": arguments.anchor, **result, **machine}, indent=2))


if __name__ == "__main__":
    main()
