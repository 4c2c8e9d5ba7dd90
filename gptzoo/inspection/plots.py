"""Attention maps and the logit lens as PNG. The module needs matplotlib (the extra `plot`)."""

from __future__ import annotations

import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gptzoo.errors import InputError
from gptzoo.inspection.attention import AttentionMaps
from gptzoo.inspection.lens import LogitLens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import FuncNorm
    from matplotlib.figure import Figure

_MAX_TICK_LABELS = 40  # tokens along an axis; the labels of more would overlap
_POSITIONS_PER_ROW = 20  # columns of the logit lens before it wraps
_MAX_LABEL_LENGTH = 9  # characters of a token


def draw_attention(maps: AttentionMaps, title: str, file: Path) -> None:
    """Draw a grid with one map per layer (rows) and head (columns), all on one colour scale."""
    n_heads = max(len(attention_map.weights) for attention_map in maps.maps)
    single = len(maps.maps) == n_heads == 1
    side = max(4.5, min(9.0, 0.2 * len(maps.tokens) + 2)) if single else 1.5  # inches
    figure = _figure(side * n_heads + (1.2 if single else 1.6), side * len(maps.maps) + 1.1)
    grid = figure.subplots(len(maps.maps), n_heads, squeeze=False)
    largest = max(float(attention_map.weights.abs().max()) for attention_map in maps.maps)
    signed = any(float(attention_map.weights.min()) < 0 for attention_map in maps.maps)
    norm = _square_root_norm(largest, signed=signed)
    for row, attention_map in zip(grid, maps.maps, strict=True):
        for head, axes in enumerate(row):
            if head >= len(attention_map.weights):
                axes.set_axis_off()
                continue
            image = axes.imshow(
                attention_map.weights[head].numpy(),
                interpolation="nearest",
                aspect="equal",
                cmap="RdBu" if signed else "Blues",
                norm=norm,
            )
            _format_map_axes(axes, maps, attention_map.weights[head].shape, single)
            if attention_map is maps.maps[0] and not single:
                axes.set_title(f"head {attention_map.heads[head]}", fontsize=8)
        if not single:
            row[0].set_ylabel(attention_map.path.removesuffix(".attention"), fontsize=8)
    bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("attention weight", fontsize=8)
    subtitle = f"\n{maps.maps[0].path}, head {maps.maps[0].heads[0]}" if single else ""
    figure.suptitle(_wrapped(title + subtitle, figure), fontsize=10)
    _save(figure, file)


def draw_lens(lens: LogitLens, title: str, file: Path) -> None:
    """Draw the top token of each layer and position, shaded by its probability. Long texts are wrapped."""
    n_layers, n_tokens = lens.ids.shape[:2]
    starts = range(0, n_tokens, _POSITIONS_PER_ROW)
    width = min(n_tokens, _POSITIONS_PER_ROW)
    figure = _figure(0.78 * width + 1.8, len(starts) * (0.34 * n_layers + 0.9) + 0.7)
    grid = figure.subplots(len(starts), 1, squeeze=False)
    image: Any = None
    for start, (axes,) in zip(starts, grid, strict=True):
        positions = slice(start, start + width)
        best = lens.probabilities[:, positions, 0].numpy()
        padded = np.full((n_layers, width), np.nan)
        padded[:, : best.shape[1]] = best
        image = axes.imshow(padded, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
        for (layer, column), probability in np.ndenumerate(best):
            label = lens.labels[int(lens.ids[layer, start + column, 0])]
            correct = start + column + 1 < n_tokens and int(lens.rank[layer, start + column]) == 0
            axes.text(
                column, layer, _short(label), ha="center", va="center", fontsize=7, family="monospace",
                color="white" if probability > 0.55 else "#1d2430", weight="bold" if correct else "normal",
            )  # fmt: skip
        axes.set_xticks(range(best.shape[1]), map(_short, lens.tokens[positions]), fontsize=7, family="monospace")
        axes.set_yticks(range(n_layers), lens.layers, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=30, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("probability of the top token", fontsize=8)
    figure.suptitle(_wrapped(f"{title}\nbold: the top token is the actual next token", figure), fontsize=10)
    _save(figure, file)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("PNG needs the package matplotlib: pip install 'gptzoo[plot]', or draw HTML instead") from None
    figure = Figure(figsize=(max(width, 4.0), height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, file: Path) -> None:
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a visible box, so the warning adds nothing.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(file)


def _square_root_norm(largest: float, *, signed: bool) -> FuncNorm:
    """Return a colour norm that maps weights by their square root, so that small weights stay visible."""
    from matplotlib.colors import FuncNorm

    def root(values: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.sign(values) * np.sqrt(np.abs(values))
        return result

    def square(values: np.ndarray) -> np.ndarray:
        result: np.ndarray = np.sign(values) * np.square(values)
        return result

    return FuncNorm((root, square), vmin=-largest if signed else 0.0, vmax=largest)


def _format_map_axes(axes: Axes, maps: AttentionMaps, shape: tuple[int, ...], single: bool) -> None:
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_color("#c8cdd6")
    if not single:
        axes.set(xticks=[], yticks=[])
        return
    if max(shape) > _MAX_TICK_LABELS or set(shape) != {len(maps.tokens)}:
        return
    axes.set_xticks(range(len(maps.tokens)), maps.tokens, rotation=90, family="monospace")
    axes.set_yticks(range(len(maps.tokens)), maps.tokens, family="monospace")
    axes.set(xlabel="key", ylabel="query")


def _short(label: str) -> str:
    return label if len(label) <= _MAX_LABEL_LENGTH else label[: _MAX_LABEL_LENGTH - 1] + "…"


def _wrapped(title: str, figure: Figure) -> str:
    width = int(figure.get_figwidth() * 11)  # characters
    lines = [part for line in title.splitlines() for part in textwrap.wrap(line, width)]
    return "\n".join(lines).replace("$", r"\$")
