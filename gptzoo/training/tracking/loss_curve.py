"""A plot of the loss curve of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def plot_loss_curve(rows: Sequence[Mapping[str, Any]], title: str, file: Path) -> None:
    """Plot training and validation loss over the steps to a PNG file. Needs matplotlib (the extra `plot`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = [(row["step"], row["train/loss"]) for row in rows if "train/loss" in row]
    val = [(row["step"], row["val/loss"]) for row in rows if "val/loss" in row]
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        steps, losses = np.array(train).T
        axes.plot(steps, losses, color="#9ecae1", linewidth=0.6, label="train, each step")
        smooth = _smooth(losses)
        axes.plot(steps, smooth, color="#2171b5", linewidth=1.4, label="train, smoothed")
    if val:
        steps, losses = np.array(val).T
        axes.plot(steps, losses, "o-", color="#d94801", markersize=3.5, linewidth=1.2, label="validation")
        axes.annotate(
            f"{losses[-1]:.3f}",
            (steps[-1], losses[-1]),
            xytext=(0, 8),
            textcoords="offset points",
            ha="right",
            color="#d94801",
        )
    axes.set(xlabel="optimizer step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file)


def _smooth(values: np.ndarray, fraction: float = 0.02) -> np.ndarray:
    """Return the centred moving average over a fraction of the curve, with narrower windows at its ends."""
    half = max(1, int(len(values) * fraction / 2))
    total = np.concatenate([[0.0], values.cumsum()])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)
