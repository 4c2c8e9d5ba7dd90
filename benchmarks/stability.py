"""The stability of Pre-LN and Post-LN over learning rates, with and without warmup. Prints JSON and draws a plot.

    python benchmarks/stability.py [--picture stability.png] > stability.json

Xiong et al. 2020 (On Layer Normalization in the Transformer Architecture, arXiv:2002.04745): in a Post-LN transformer
the gradients near the output are large at initialisation, so it needs warmup; a Pre-LN transformer does not. A deep and
narrow model trains on the built-in stories. Each run is configs/runs/stability.json with another norm, warmup, learning
rate and seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

NORMS = ("pre_ln", "post_ln")
WARMUPS = (0, 100)  # steps
LRS = (0.0005, 0.001, 0.002)
SPEC = Path(__file__).parents[1] / "configs" / "runs" / "stability.json"


def run_trial(trial: tuple[str, int, float, int, int, str]) -> tuple[str, int, float, int, list[tuple[int, float]]]:
    """Train once; return the validation losses by step, with a last one of infinity if the run diverged."""
    norm, warmup, lr, seed, steps, folder = trial
    import gptzoo

    overrides = [f"model.norm={norm}", f"schedule.warmup_steps={warmup}", f"optimizer.lr={lr}", f"seed={seed}"]
    overrides += [f"steps={steps}", f"checkpoint.every={steps}"]
    run = Path(folder) / f"{norm}-{warmup}-{lr:g}-{seed}"
    curve: list[tuple[int, float]] = []
    try:
        gptzoo.train(gptzoo.load_run_spec(SPEC, overrides), run, resume=True, quiet=True)
    except gptzoo.Diverged as error:
        print(error, file=sys.stderr)
        curve = [(steps, float("inf"))]
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    curve = [(row["step"], row["val/loss"]) for row in rows if "val/loss" in row] + curve
    print(f"{norm:>8} warmup {warmup:<4} lr {lr:<6g} seed {seed}  {curve[-1][1]:.3f}", file=sys.stderr, flush=True)
    return norm, warmup, lr, seed, curve


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder to keep the runs in; existing runs are resumed")
    parser.add_argument("--picture", type=Path, help="PNG file for the plot")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(arguments.out or temporary)
        trials = [
            (norm, warmup, lr, seed, arguments.steps, folder)
            for norm in NORMS
            for warmup in WARMUPS
            for lr in LRS
            for seed in arguments.seeds
        ]
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
            curves = {tuple(key): curve for *key, curve in pool.map(run_trial, trials, chunksize=1)}
    rows = []
    for norm in NORMS:
        for warmup in WARMUPS:
            for lr in LRS:
                losses = [curves[norm, warmup, lr, seed][-1][1] for seed in arguments.seeds]
                mean = statistics.mean(losses)
                by_seed = {str(seed): curves[norm, warmup, lr, seed] for seed in arguments.seeds}
                rows.append(
                    {"norm": norm, "warmup_steps": warmup, "lr": lr, "mean": mean, "losses": losses, "curves": by_seed}
                )
    setting = {"steps": arguments.steps, "seeds": arguments.seeds, "torch": torch.__version__, "threads": 1}
    machine = {"machine": platform.machine(), "loss_of_frequencies_alone": unigram_loss()}
    print(json.dumps({**setting, **machine, "runs": rows}, indent=2))
    if arguments.picture:
        draw(curves, arguments.seeds, arguments.picture)


def unigram_loss() -> float:
    """Return the validation loss of the token frequencies of the training text, where failed runs get stuck."""
    import numpy as np

    import gptzoo
    from gptzoo.data.prepare import prepare

    spec = gptzoo.load_run_spec(SPEC)
    _, store = prepare(spec.corpus.build(), spec.tokenizer)
    counts = np.bincount(store.train, minlength=store.vocab_size) + 1.0
    return float(-np.log(counts / counts.sum())[store.val[1:]].mean())


def draw(curves: dict[tuple[Any, ...], list[tuple[int, float]]], seeds: list[int], file: Path) -> None:
    """Plot the curves of every seed, in one panel per learning rate."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(LRS), figsize=(3.1 * len(LRS), 3.2), sharey=True, layout="constrained")
    colours = {"pre_ln": "#1f77b4", "post_ln": "#d95f02"}
    for lr, axes in zip(LRS, panels, strict=True):
        for norm in NORMS:
            for warmup in WARMUPS:
                for seed in seeds:
                    steps, losses = zip(*curves[norm, warmup, lr, seed], strict=True)
                    name = f"{norm}, {'warmup ' + str(warmup) if warmup else 'no warmup'}"
                    style = "-" if warmup else "--"
                    axes.plot(
                        steps,
                        losses,
                        style,
                        color=colours[norm],
                        linewidth=1.2,
                        label=name if seed == seeds[0] else None,
                    )
        axes.set_title(f"lr {lr:g}", fontsize=10)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("validation loss (nats per token)")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
