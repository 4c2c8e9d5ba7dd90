"""The figures of docs/look-inside.md. They are narrow, so that their text can be read on a phone."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.inspection.attention import attention_maps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.4  # inches
SIZES = {"font.size": 10, "axes.titlesize": 10, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9}
SETTINGS = {**SIZES, "svg.hashsalt": "gptzoo", "axes.spines.top": False, "axes.spines.right": False}
NAMES = {"first_token": "first token", "previous_token": "previous token", "induction": "induction"}
BLUE, ORANGE, GREY = "#1f5fa8", "#c2571a", "#c3c8d0"


def draw_all(results: dict[str, Any], loaded: LoadedModel, text: str, folder: Path) -> list[Path]:
    """Write the figures as SVG and return their files. The maps are those of `text`."""
    with matplotlib.rc_context(SETTINGS):
        figures = {
            "heads": draw_heads(results),
            "sinks": draw_sinks(results),
            "maps": draw_maps(results, loaded, text),
            "lens": draw_lens(results),
        }
        files = []
        for name, figure in figures.items():
            files.append(folder / f"look-inside-{name}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
    return files


def draw_heads(results: dict[str, Any]) -> Figure:
    """Draw three maps of layers and heads: how much each head does of what the measures look for."""
    n_layers = len(results["layers"])
    figure = Figure(figsize=(WIDTH, 0.14 * n_layers + 1.4), layout="constrained")
    grid = figure.subplots(1, len(NAMES), sharey=True)
    for axes, (key, title) in zip(grid, NAMES.items(), strict=True):
        image = axes.imshow(results["heads"][key], cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
        axes.set(title=title, xlabel="head", xticks=range(0, len(results["heads"][key][0]), 2))
    grid[0].set(ylabel="layer", yticks=range(0, n_layers, 2))
    figure.colorbar(image, ax=grid, location="bottom", label="mean attention weight", aspect=40)
    return figure


def draw_sinks(results: dict[str, Any]) -> Figure:
    """Draw the weight on first token by layer, above the norms of the residual stream that the layer reads."""
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    layers = range(len(results["layers"]))
    heads = results["heads"]["first_token"]
    above.bar(layers, [sum(row) / len(row) for row in heads], color=BLUE)
    above.set(ylabel="weight on first token", ylim=(0, 1))
    for key, colour, label in (("first", BLUE, "first token"), ("others", ORANGE, "median of the others")):
        below.plot(layers, results["norms"][key][: len(layers)], color=colour, label=label)
    below.set(yscale="log", ylabel="norm of the layer's input", xlabel="layer")
    below.legend(frameon=False)
    return figure


def draw_maps(results: dict[str, Any], loaded: LoadedModel, text: str) -> Figure:
    """Draw the attention map of the strongest head of each kind."""
    maps = attention_maps(loaded, list(loaded.tokenizer.encode(text)))
    figure = Figure(figsize=(WIDTH, len(NAMES) * 3.9), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(len(NAMES), 1), NAMES.items(), strict=True):
        layer, head = strongest_head(results["heads"][key])
        image = axes.imshow(maps.maps[layer].weights[head].numpy(), cmap="Blues", vmin=0, vmax=1)
        _label(axes, maps.tokens, f"{title}: layer {layer}, head {head}")
    figure.colorbar(image, ax=axes, location="bottom", label="attention weight", aspect=40)
    return figure


def draw_lens(results: dict[str, Any]) -> Figure:
    """Draw the rank of the right answer by layer, for each country."""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    first, *others = results["ranks"]
    layers = range(-1, len(results["ranks"][first]) - 1)  # -1: before the first block
    for i, country in enumerate(others):
        axes.plot(layers, results["ranks"][country], color=GREY, linewidth=0.8, label=None if i else "other countries")
    if others:
        medians = [median(ranks) for ranks in zip(*results["ranks"].values(), strict=True)]
        axes.plot(layers, medians, color=ORANGE, label="median")
    axes.plot(layers, results["ranks"][first], color=BLUE, linewidth=2, label=first)
    axes.set(yscale="log", xlabel="layer", ylabel="rank of the right answer")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    return figure


def strongest_head(weights: list[list[float]]) -> tuple[int, int]:
    """Return the layer and the head with the greatest weight."""
    _, layer, head = max((weight, layer, head) for layer, row in enumerate(weights) for head, weight in enumerate(row))
    return layer, head


def _label(axes: Axes, tokens: tuple[str, ...], title: str) -> None:
    axes.set_xticks(range(len(tokens)), tokens, rotation=90, family="monospace")
    axes.set_yticks(range(len(tokens)), tokens, family="monospace")
    axes.tick_params(length=0)
    axes.set(title=title, ylabel="query")
