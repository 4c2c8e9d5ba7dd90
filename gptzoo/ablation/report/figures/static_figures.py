"""The figures of a report as PNG and SVG, drawn with matplotlib (the extra `plot`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gptzoo.ablation.records.analysis import Band
from gptzoo.ablation.report.figures.figure import (
    MIN_PART_POINTS,
    Figure,
    ForestPlot,
    LearningCurves,
    ParetoPlot,
    ScalingPlot,
)
from gptzoo.ablation.report.figures.static_task_figures import plot_heat, plot_states
from gptzoo.ablation.report.figures.task_figures import HeatMap, StatePlot
from gptzoo.ablation.report.palette import INK, LIGHT, LineStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_MUTED, _MARGIN_SHADE = "#5f6878", "#eceff3"
_VERDICT_COLOURS = {"better": "#0a6b52", "worse": "#b3421a"}
_WIDTH = 7.0  # inches: the text width of a page
_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.edgecolor": _MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6eb",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK["light"],
    "axes.labelcolor": INK["light"],
    "xtick.color": _MUTED,
    "ytick.color": INK["light"],
    "text.parse_math": False,  # a $ in a name is text
    "svg.fonttype": "none",
    "svg.hashsalt": "gptzoo",  # equal figures give equal files
}


class _Label(NamedTuple):
    """The name of a variant, next to its last point."""

    y: float
    x: float
    text: str


def draw_figure(figure: Figure, styles: Mapping[str, LineStyle], folder: Path) -> list[Path]:
    """Write a figure as PNG and SVG, one file per cost if it has several. Raises ImportError without matplotlib."""
    if isinstance(figure, ForestPlot):
        return _save(figure.name, folder, partial(_draw_forest, figure, styles))
    if isinstance(figure, ScalingPlot):
        return _save(figure.name, folder, partial(_draw_scaling, figure, styles))
    files = []
    if isinstance(figure, StatePlot):
        for task in figure.panels:
            name = f"{figure.name}-{re.sub(r'[^A-Za-z0-9_]+', '-', task).strip('-')}"
            files += _save(name, folder, partial(_draw_states, figure, task, styles))
        return files
    for cost in figure.costs:
        name = f"{figure.name}-{cost.replace(' ', '-')}"
        if isinstance(figure, ParetoPlot):
            files += _save(name, folder, partial(_draw_pareto, figure, cost, styles))
        else:
            files += _save(name, folder, partial(_draw_curves, figure, cost, styles))
    return files


def draw_heat_map(figure: HeatMap, folder: Path) -> list[Path]:
    """Write a heat map as PNG and SVG. Raises ImportError without matplotlib."""
    return _save(figure.name, folder, partial(_draw_heat, figure))


def _save(name: str, folder: Path, draw: Callable[[], Canvas]) -> list[Path]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        canvas = draw()
        png, svg = folder / f"{name}.png", folder / f"{name}.svg"
        canvas.savefig(png, dpi=200)
        canvas.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _subplots(height: float, columns: int = 1, width: float = _WIDTH) -> tuple[Canvas, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots(1, columns, squeeze=False)[0]


def _draw_forest(figure: ForestPlot, styles: Mapping[str, LineStyle]) -> Canvas:
    canvas, (axes,) = _subplots(0.75 + 0.3 * len(figure.rows))
    if figure.margin:
        axes.axvspan(-figure.margin, figure.margin, color=_MARGIN_SHADE, zorder=0)
    if figure.reference is not None:
        axes.axvline(figure.reference, color=_MUTED, linewidth=1)
    for y, row in enumerate(figure.rows):
        colour = INK["light"] if row.verdict else _colour(styles.get(row.label))
        colour = _VERDICT_COLOURS.get(row.verdict or "", colour)
        dots_y = [y + 0.3] * len(row.dots)
        axes.plot(row.dots, dots_y, "o", color=colour, markersize=2.5, alpha=0.55, markeredgewidth=0)
        if row.low is not None and row.high is not None:
            lengths = [[row.value - row.low], [row.high - row.value]]
            axes.errorbar(row.value, y, xerr=lengths, color=colour, capsize=2.5)
        face = "white" if row.verdict == "cannot tell" else colour
        axes.plot(row.value, y, "s", color=colour, markerfacecolor=face, markersize=5)
        axes.annotate(
            row.text, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, annotation_clip=False
        )
    axes.set_yticks(range(len(figure.rows)), [row.label for row in figure.rows])
    axes.set_ylim(len(figure.rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(figure.axis)
    return canvas


def _draw_curves(figure: LearningCurves, cost: str, styles: Mapping[str, LineStyle]) -> Canvas:
    """Draw the whole training and, if it has enough points, its last half, where the differences are visible."""
    metric = next(iter(figure.metrics))
    bands = [band for band in figure.bands if (band.metric, band.against) == (metric, cost)]
    bands = [band for band in bands if band.variant in figure.initially_shown] or bands
    end = max(max(band.x) for band in bands)
    is_split = max(sum(x >= end / 2 for x in band.x) for band in bands) >= MIN_PART_POINTS
    starts = (0.0, end / 2) if is_split else (0.0,)
    canvas, panels = _subplots(2.9, columns=len(starts))
    for axes, start in zip(panels, starts, strict=True):
        for band in bands:
            _draw_band(axes, band, styles[band.variant], start)
        axes.set_xlabel(figure.costs[cost])
        axes.margins(x=0.01)
    panels[0].set_ylabel(figure.metrics[metric])
    if is_split:
        panels[1].set_title("the last half", fontsize=8.5, loc="left", color=_MUTED)
    labels = [_Label(band.mean[-1], band.x[-1], band.variant) for band in bands if band.x[-1] >= starts[-1]]
    _draw_labels(panels[-1], labels, right=max(label.x for label in labels), n_lines=17)
    return canvas


def _draw_band(axes: Axes, band: Band, style: LineStyle, start: float) -> None:
    """Draw the part of a band from x = `start` on."""
    shown = [index for index, x in enumerate(band.x) if x >= start]
    x, mean = [band.x[i] for i in shown], [band.mean[i] for i in shown]
    axes.plot(x, mean, color=_colour(style), linestyle=_line_style(style), linewidth=1.3)
    with_interval = [i for i in shown if band.low[i] is not None]
    axes.fill_between(
        [band.x[i] for i in with_interval],
        [band.low[i] for i in with_interval],  # type: ignore[arg-type]
        [band.high[i] for i in with_interval],  # type: ignore[arg-type]
        color=_colour(style),
        alpha=0.15,
        linewidth=0,
    )


def _draw_labels(axes: Axes, labels: Sequence[_Label], *, right: float, n_lines: int) -> None:
    """Draw labels to the right of x = `right`, spaced so that up to `n_lines` of them do not overlap."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    spacing = (high - low) / n_lines
    labels = sorted(labels)
    text_y: list[float] = []
    for label in labels:  # upwards: each at least one line above the one below
        text_y.append(max(label.y, text_y[-1] + spacing) if text_y else label.y)
    limit = high
    for index in reversed(range(len(text_y))):  # downwards: none above the top
        text_y[index] = min(text_y[index], limit)
        limit = text_y[index] - spacing
    for label, y in zip(labels, text_y, strict=True):
        axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(right + (right - axes.get_xlim()[0]) * 0.06, y),
            textcoords="data",
            va="center",
            fontsize=7.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _MUTED,
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def _draw_pareto(figure: ParetoPlot, cost: str, styles: Mapping[str, LineStyle]) -> Canvas:
    points = figure.points[cost]
    height = max(3.4, 0.8 + 0.17 * len(points))
    canvas, (axes,) = _subplots(height)
    front = [point for point in points if point.on_front]
    axes.step(
        [*(p.cost for p in front), max(p.cost for p in points)],
        [*(p.loss for p in front), front[-1].loss],
        where="post",
        color=_MUTED,
        linestyle=":",
        linewidth=1,
    )
    for point in points:
        colour, estimate = _colour(styles[point.variant]), figure.intervals[point.variant]
        if estimate.low is not None and estimate.high is not None:
            axes.plot([point.cost] * 2, [estimate.low, estimate.high], color=colour, linewidth=1.2)
        axes.plot(point.cost, point.loss, "o", color=colour, markerfacecolor=colour if point.on_front else "white")
    axes.margins(x=0.05)
    labels = [_Label(point.loss, point.cost, point.variant) for point in points]
    _draw_labels(axes, labels, right=axes.get_xlim()[1], n_lines=int(6 * (height - 0.5)))
    axes.set(xlabel=figure.costs[cost], ylabel=figure.axis)
    return canvas


def _draw_states(figure: StatePlot, task: str, styles: Mapping[str, LineStyle]) -> Canvas:
    canvas, (axes,) = _subplots(3.0)
    plot_states(axes, figure, task, {model: _colour(styles[model]) for model in figure.models})
    return canvas


def _draw_heat(figure: HeatMap) -> Canvas:
    canvas, (axes,) = _subplots(0.9 + 0.5 * len(figure.rows), width=max(_WIDTH, 1.2 + 1.05 * len(figure.columns)))
    plot_heat(axes, figure)
    return canvas


def _draw_scaling(figure: ScalingPlot, styles: Mapping[str, LineStyle]) -> Canvas:
    canvas, (axes,) = _subplots(3.6)
    axes.set(xscale="log", yscale="log" if figure.log_y else "linear", xlabel=figure.x_axis, ylabel=figure.axis)
    if figure.reference is not None:
        axes.axhline(figure.reference, color=_MUTED, linewidth=1)
    for series in figure.series:
        style = styles[series.variant]
        colour = _colour(style)
        x, y, low, high = zip(*series.curve, strict=True) if series.curve else ((), (), (), ())
        axes.plot(x, y, color=colour, linestyle=_line_style(style), linewidth=1.3, label=series.variant)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        for mark in series.marks:
            if mark.low is not None:
                axes.plot([mark.x] * 2, [mark.low, mark.high or 10 * mark.y], color=colour, linewidth=1.2)
            axes.plot(
                mark.x, mark.y, "o", color=colour, markersize=4, markerfacecolor="white" if mark.is_ring else colour
            )
    axes.legend(frameon=False)
    return canvas


def _colour(style: LineStyle | None) -> str:
    return INK["light"] if style is None or style.colour is None else LIGHT[style.colour]


def _line_style(style: LineStyle) -> str | tuple[float, tuple[float, ...]]:
    return (0, tuple(float(length) for length in style.dash.split())) if style.dash else "solid"
