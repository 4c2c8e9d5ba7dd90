"""Pictures of what is inside, as PNG. They need matplotlib (the extra `plot`)."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gptzoo.errors import InputError
from gptzoo.inspection.attention import AttentionMaps
from gptzoo.inspection.lens import Lens

_LABELS = 40  # more tokens along an axis cannot be read
_WRAP = 20  # positions side by side in the picture of a lens


def draw_attention(found: AttentionMaps, title: str, file: Path) -> None:
    """One map for each layer and head, layers below each other, on one scale of colours."""
    n_heads = max(len(each.weights) for each in found.maps)
    alone = len(found.maps) == n_heads == 1
    side = max(4.5, min(9.0, 0.2 * len(found.tokens) + 2)) if alone else 1.5
    figure = _figure(side * n_heads + (1.2 if alone else 1.6), side * len(found.maps) + 1.1)
    grid = figure.subplots(len(found.maps), n_heads, squeeze=False)
    largest = max(float(each.weights.abs().max()) for each in found.maps)
    signed = any(float(each.weights.min()) < 0 for each in found.maps)
    scale = {"cmap": "RdBu", "norm": _root(largest, signed)} if signed else {"cmap": "Blues", "norm": _root(largest)}
    for row, each in zip(grid, found.maps, strict=True):
        for head, axes in enumerate(row):
            if head >= len(each.weights):
                axes.set_axis_off()
                continue
            image = axes.imshow(each.weights[head].numpy(), interpolation="nearest", aspect="equal", **scale)
            _label(axes, found, each.weights[head].shape, alone)
            if each is found.maps[0] and not alone:
                axes.set_title(f"head {each.heads[head]}", fontsize=8)
        if not alone:
            row[0].set_ylabel(each.path.removesuffix(".attention"), fontsize=8)
    bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("weight", fontsize=8)
    which = f"\n{found.maps[0].path}, head {found.maps[0].heads[0]}" if alone else ""
    figure.suptitle(_wrapped(title + which, figure), fontsize=10)
    _save(figure, file)


def draw_lens(found: Lens, title: str, file: Path) -> None:
    """The likeliest token of each layer and position, darker where the model is surer; long texts are wrapped."""
    n_layers, n_tokens = found.ids.shape[:2]
    starts = range(0, n_tokens, _WRAP)
    width = min(n_tokens, _WRAP)
    figure = _figure(0.78 * width + 1.8, len(starts) * (0.34 * n_layers + 0.9) + 0.7)
    grid = figure.subplots(len(starts), 1, squeeze=False)
    image: Any = None
    for start, (axes,) in zip(starts, grid, strict=True):
        there = slice(start, start + width)
        best = found.probabilities[:, there, 0].numpy()
        padded = np.full((n_layers, width), np.nan)
        padded[:, : best.shape[1]] = best
        image = axes.imshow(padded, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
        for (layer, column), share in np.ndenumerate(best):
            label = found.labels[int(found.ids[layer, start + column, 0])]
            right = start + column + 1 < n_tokens and int(found.rank[layer, start + column]) == 0
            axes.text(
                column, layer, _short(label), ha="center", va="center", fontsize=7, family="monospace",
                color="white" if share > 0.55 else "#1d2430", weight="bold" if right else "normal",
            )  # fmt: skip
        axes.set_xticks(range(best.shape[1]), map(_short, found.tokens[there]), fontsize=7, family="monospace")
        axes.set_yticks(range(n_layers), found.layers, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("probability of the likeliest token", fontsize=8)
    figure.suptitle(_wrapped(f"{title}\nbold: what the text goes on with", figure), fontsize=10)
    _save(figure, file)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("a PNG needs the package matplotlib: pip install 'gptzoo[plot]'; HTML does not") from None
    figure = Figure(figsize=(max(width, 4.0), height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, file: Path) -> None:
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a box, which can be seen.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(file)


def _root(largest: float, signed: bool = False) -> Any:
    """Colours by the square root, so that small weights can be told from none."""
    from matplotlib.colors import FuncNorm

    def root(values: Any) -> Any:
        return np.sign(values) * np.sqrt(np.abs(values))

    def square(values: Any) -> Any:
        return np.sign(values) * np.square(values)

    return FuncNorm((root, square), vmin=-largest if signed else 0.0, vmax=largest)


def _label(axes: Any, found: AttentionMaps, shape: tuple[int, ...], alone: bool) -> None:
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_color("#c8cdd6")
    if not alone or max(shape) > _LABELS or set(shape) != {len(found.tokens)}:
        if not alone:
            axes.set(xticks=[], yticks=[])
        return
    axes.set_xticks(range(len(found.tokens)), found.tokens, rotation=90, family="monospace")
    axes.set_yticks(range(len(found.tokens)), found.tokens, family="monospace")
    axes.set(xlabel="looked at", ylabel="looks")


def _short(label: str) -> str:
    return label if len(label) <= 9 else label[:8] + "…"


def _wrapped(title: str, figure: Any) -> str:
    width = int(figure.get_figwidth() * 11)
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(lines).replace("$", r"\$")
