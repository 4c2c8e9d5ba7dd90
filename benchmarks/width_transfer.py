"""Measure the best learning rate at several widths, with parametrisation `mup` and without it. Prints a table.

    python benchmarks/width_transfer.py [--widths 64 128 256 512] [--seeds 1 2 3]
    python benchmarks/width_transfer.py --report        # trains nothing

Every result is stored in `--out` as soon as it is known, and is not measured again: the command can be stopped at any
time. Losses do not depend on what else the machine does.

For each parametrisation and width, the learning rate moves along a grid of factor 1.5 until the best one, by the mean
validation loss over the seeds, has a worse neighbour on both sides. All runs have the same number of tokens. `mup`
transfers here if its best learning rate moves by at most one grid step over all widths, while the standard one moves by
two or more. Everything else is inconclusive. At the base width, 64, both are the same model, which is trained once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the number of threads affects the last digits of losses

RESULTS = Path(__file__).parent / "results" / "width-transfer-cpu.json"
PARAMETRISATIONS = ("standard", "mup")
BASE_WIDTH = 64
WIDTHS = (BASE_WIDTH, 128, 256, 512)
SEEDS = (1, 2, 3)
D_HEAD = 32
FACTOR = 1.5
CENTRE = 1e-2
"""The learning rate of grid index 0."""
START = -1
"""The grid index with which the search at the smallest width starts."""
STEPS = 120


def run_spec(parametrisation: str, width: int, lr: float, seed: int) -> dict[str, Any]:
    """Return the run spec of one point."""
    model: dict[str, Any] = {
        "context_length": 64,
        "d_model": width,
        "n_layers": 2,
        "n_heads": width // D_HEAD,
        "positional": "rope",
    }
    if parametrisation == "mup":
        base = {"d_model": BASE_WIDTH, "n_heads": BASE_WIDTH // D_HEAD}
        model["parametrisation"] = {"type": "mup", "base": base}
    return {
        "model": model,
        "corpus": {"type": "stories", "n_stories": 600},
        "tokenizer": "char",
        "batch_size": 8,
        "steps": STEPS,
        "optimizer": {"type": "adamw", "lr": lr, "weight_decay": 0.1},
        "schedule": {"type": "cosine", "warmup_steps": 10},
        "eval": {"every": STEPS},
        "checkpoint": {"every": STEPS},
        "watch": {"every": None},
        "sample": {"max_new_tokens": 0},
        "precision": "fp32",
        "device": "cpu",
        "seed": seed,
    }


class Results:
    """The validation losses measured so far, in a file. A run that diverged has an infinite loss, null in the file."""

    def __init__(self, file: Path, *, widths: list[int], seeds: list[int]):
        self.file, self.widths, self.seeds = file, widths, seeds
        rows = json.loads(file.read_text())["runs"] if file.exists() else []
        self.losses = {
            (row["parametrisation"], row["width"], row["index"], row["seed"]): _from_json(row["loss"]) for row in rows
        }

    def has(self, parametrisation: str, width: int, index: int, seed: int) -> bool:
        """Return True if a loss was measured."""
        return (parametrisation, width, index, seed) in self.losses

    def add(self, parametrisation: str, width: int, index: int, seed: int, loss: float) -> None:
        """Store a loss. At the base width it is that of every parametrisation."""
        for of in PARAMETRISATIONS if width == BASE_WIDTH else (parametrisation,):
            self.losses[of, width, index, seed] = loss
        self.write()

    def mean(self, parametrisation: str, width: int, index: int) -> float | None:
        """Return the mean loss over the seeds, or None if one of them was not measured."""
        if not all(self.has(parametrisation, width, index, seed) for seed in self.seeds):
            return None
        return statistics.fmean(self.losses[parametrisation, width, index, seed] for seed in self.seeds)

    def best(self, parametrisation: str, width: int) -> int | None:
        """Return the grid index of the best learning rate, or None if its neighbours were not all measured."""
        means = {
            index: mean
            for of, at, index in {key[:3] for key in self.losses}
            if (of, at) == (parametrisation, width) and (mean := self.mean(of, at, index)) is not None
        }
        if not means:
            return None
        best = min(means, key=lambda index: (means[index], index))
        return best if {best - 1, best + 1} <= means.keys() else None

    def write(self) -> None:
        """Replace the file."""
        import torch

        runs = [
            {
                "parametrisation": parametrisation,
                "width": width,
                "index": index,
                "lr": learning_rate(index),
                "seed": seed,
                "loss": loss if math.isfinite(loss) else None,
            }
            for (parametrisation, width, index, seed), loss in sorted(self.losses.items())
        ]
        record = {
            "steps": STEPS,
            "grid_factor": FACTOR,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "summary": self.summary(),
            "runs": runs,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(record, indent=1) + "\n")
        new.replace(self.file)

    def summary(self) -> dict[str, Any]:
        """Return the best grid index by parametrisation and width, and what follows from them."""
        best = {p: {str(width): self.best(p, width) for width in self.widths} for p in PARAMETRISATIONS}
        moves = {p: None if None in found.values() else _range(list(found.values())) for p, found in best.items()}
        if None in moves.values():
            verdict = "not finished"
        else:
            transfers = moves["mup"] <= 1 and moves["standard"] >= 2
            verdict = "mup transfers, the standard parametrisation does not" if transfers else "inconclusive"
        return {"best_index": best, "grid_steps_moved": moves, "verdict": verdict}


def learning_rate(index: int) -> float:
    """Return the learning rate of a grid index, to four digits."""
    return float(f"{CENTRE * FACTOR**index:.4g}")


def train(parametrisation: str, width: int, index: int, seed: int) -> float:
    """Train one model and return its validation loss."""
    import gptzoo

    spec = gptzoo.load_run_spec(run_spec(parametrisation, width, learning_rate(index), seed))
    with tempfile.TemporaryDirectory() as folder:
        try:
            return float(gptzoo.train(spec, Path(folder) / "run", quiet=True).metrics["val/loss"])
        except gptzoo.Diverged:
            return math.inf


def measure(results: Results, parametrisation: str, width: int, start: int) -> int:
    """Search the best learning rate of one width from the index `start`, and return its index."""
    index = start
    while True:
        for neighbour in (index, index + 1, index - 1):
            for seed in results.seeds:
                if not results.has(parametrisation, width, neighbour, seed):
                    loss = train(parametrisation, width, neighbour, seed)
                    results.add(parametrisation, width, neighbour, seed, loss)
                    lr = learning_rate(neighbour)
                    print(f"{parametrisation:>8}  {width:4}  lr {lr:<9g} seed {seed}  {loss:.4f}", file=sys.stderr)
        if (best := results.best(parametrisation, width)) is not None:
            return best
        means = {k: results.mean(parametrisation, width, k) or math.inf for k in (index - 1, index, index + 1)}
        index = min(means, key=lambda k: means[k])


def table(results: Results) -> str:
    """Return the mean losses as text, with a star at the best learning rate of each width."""
    indices = sorted({key[2] for key in results.losses})
    lines = ["parametrisation  width  " + "  ".join(f"{learning_rate(index):>8g}" for index in indices)]
    for parametrisation in PARAMETRISATIONS:
        for width in results.widths:
            best = results.best(parametrisation, width)
            means = {index: results.mean(parametrisation, width, index) for index in indices}
            cells = (
                " " * 8 if mean is None else f"{mean:>7.4f}{'*' if index == best else ' '}"
                for index, mean in means.items()
            )
            lines.append(f"{parametrisation:>15}  {width:5}  " + "  ".join(cells))
    return "\n".join([*lines, json.dumps(results.summary())])


def _from_json(loss: float | None) -> float:
    return math.inf if loss is None else loss


def _range(values: list[Any]) -> int:
    return int(max(values) - min(values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", choices=PARAMETRISATIONS, help="measure one parametrisation (default: both)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="print the table of the results so far")
    arguments = parser.parse_args()
    results = Results(arguments.out, widths=arguments.widths, seeds=arguments.seeds)
    if not arguments.report:
        starts = dict.fromkeys(PARAMETRISATIONS, START)
        chosen = (arguments.only,) if arguments.only else PARAMETRISATIONS
        for width in arguments.widths:
            for parametrisation in chosen:
                starts[parametrisation] = measure(results, parametrisation, width, starts[parametrisation])
    print(table(results))


if __name__ == "__main__":
    main()
