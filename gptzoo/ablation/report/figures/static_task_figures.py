"""Matplotlib drawings of the figures of synthetic tasks."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gptzoo.ablation.report.figures.task_figures import HeatMap, StatePlot
from gptzoo.utils.units import scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEAT_COLOUR = "#0a6b52"  # that of "better" verdicts, as on the page
_TITLE_WIDTH = 20  # characters in a line
_MAX_ALPHA = 0.5  # the text on the darkest cell stays readable


def plot_states(axes: Axes, figure: StatePlot, task: str, colours: Mapping[str, str]) -> None:
    """Plot accuracy against the size of the state on one task, a point per seed."""
    from matplotlib.ticker import LogLocator, NullLocator

    sizes = [point.state_bytes for point in figure.panels[task]]
    for model in figure.models:
        points = [point for point in figure.panels[task] if point.model == model]
        x, y = [point.state_bytes for point in points], [point.value for point in points]
        axes.plot(x, y, "o", color=colours[model], markersize=5, alpha=0.7, label=model)
    axes.axhline(figure.chance[task], color="#5f6878", linestyle="--", linewidth=1)
    if max(sizes) > 2 * min(sizes):  # the ticks 1, 2 and 5 include one in any such range
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda size, _: scaled(size).strip())
    axes.set(xlabel=figure.axis, ylabel=f"accuracy on {task}", ylim=(-0.04, 1.04))
    axes.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def plot_heat(axes: Axes, figure: HeatMap) -> None:
    """Plot the cells of a heat map with their numbers."""
    values = [
        [np.nan if cell is None or cell.value is None else cell.value for cell in cells]
        for cells in figure.rows.values()
    ]
    axes.grid(visible=False)
    for row, cells in enumerate(figure.rows.values()):
        for column, cell in enumerate(cells):
            if cell is None:
                continue
            alpha = 0.0 if np.isnan(values[row][column]) else _MAX_ALPHA * min(1.0, max(0.0, values[row][column]))
            axes.axhspan(
                row - 0.47,
                row + 0.47,
                *_share(column, len(figure.columns)),
                color=_HEAT_COLOUR,
                alpha=alpha,
                linewidth=0,
            )
            text = "\n".join(filter(None, (cell.text, cell.interval, cell.solved)))
            axes.text(column, row, text, ha="center", va="center", fontsize=7)
    lines = [f"{textwrap.fill(column.title, _TITLE_WIDTH)}\n{column.subtitle}" for column in figure.columns]
    axes.set_xticks(range(len(figure.columns)), lines, fontsize=6.5)
    axes.set_yticks(range(len(figure.rows)), list(figure.rows))
    axes.set(xlim=(-0.5, len(figure.columns) - 0.5), ylim=(len(figure.rows) - 0.5, -0.5))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _share(column: int, n_columns: int) -> tuple[float, float]:
    """Return the left and right end of a column as shares of the width."""
    return (column + 0.03) / n_columns, (column + 0.97) / n_columns
