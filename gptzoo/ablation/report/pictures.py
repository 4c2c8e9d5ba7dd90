"""The figures for print, as PNG and SVG, by matplotlib (the extra `plot`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.analysis import Band
from gptzoo.ablation.report.figures import Curves, Figure, Forest, Plane
from gptzoo.ablation.report.palette import INK, LIGHT, Look

_QUIET, _SHADE = "#5f6878", "#eceff3"
_VERDICTS = {"better": "#0a6b52", "worse": "#b3421a"}
_WIDTH = 7.0  # inches, of a page of text
_STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.edgecolor": _QUIET,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6eb",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK["light"],
    "axes.labelcolor": INK["light"],
    "xtick.color": _QUIET,
    "ytick.color": INK["light"],
    "text.parse_math": False,  # names are text
    "svg.fonttype": "none",
    "svg.hashsalt": "gptzoo",  # the same figure is the same file
}


def draw(figure: Figure, looks: Mapping[str, Look], folder: Path) -> list[Path]:
    """Write a figure as PNG and SVG; one with several costs as one file for each. Raises ImportError."""
    if isinstance(figure, Forest):
        return _save(figure.name, folder, lambda: _forest(figure, looks))
    files = []
    for cost in figure.costs:
        name = f"{figure.name}-{cost.replace(' ', '-')}"
        if isinstance(figure, Plane):
            files += _save(name, folder, lambda cost=cost: _plane(figure, cost, looks))  # type: ignore[misc]
        else:
            files += _save(name, folder, lambda cost=cost: _curves(figure, cost, looks))  # type: ignore[misc]
    return files


def _save(name: str, folder: Path, make: Callable[[], Any]) -> list[Path]:
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        drawn = make()
        files = [folder / f"{name}.png", folder / f"{name}.svg"]
        drawn.savefig(files[0], dpi=200)
        drawn.savefig(files[1], metadata={"Date": None})
    return files


def _figure(height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots(1, columns, squeeze=False)[0]


def _forest(figure: Forest, looks: Mapping[str, Look]) -> Any:
    canvas, (axes,) = _figure(0.75 + 0.3 * len(figure.rows))
    if figure.margin:
        axes.axvspan(-figure.margin, figure.margin, color=_SHADE, zorder=0)
    if figure.reference is not None:
        axes.axvline(figure.reference, color=_QUIET, linewidth=1)
    for at, row in enumerate(figure.rows):
        colour = INK["light"] if row.verdict else _colour(looks.get(row.label))
        colour = _VERDICTS.get(row.verdict or "", colour)
        axes.plot(
            row.dots, [at + 0.3] * len(row.dots), "o", color=colour, markersize=2.5, alpha=0.55, markeredgewidth=0
        )
        if row.low is not None and row.high is not None:
            axes.errorbar(
                row.value, at, xerr=[[row.value - row.low], [row.high - row.value]], color=colour, capsize=2.5
            )
        face = "white" if row.verdict == "cannot tell" else colour
        axes.plot(row.value, at, "s", color=colour, markerfacecolor=face, markersize=5)
        axes.annotate(
            row.shown, (1.01, at), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, annotation_clip=False
        )
    axes.set_yticks(range(len(figure.rows)), [row.label for row in figure.rows])
    axes.set_ylim(len(figure.rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(figure.axis)
    return canvas


def _curves(figure: Curves, cost: str, looks: Mapping[str, Look]) -> Any:
    """Training as a whole, and its last half, where the differences are."""
    metric = next(iter(figure.metrics))
    bands = [band for band in figure.bands if (band.metric, band.against) == (metric, cost)]
    bands = [band for band in bands if band.variant in figure.first] or bands
    canvas, panels = _figure(2.9, columns=2)
    last = max(max(band.x) for band in bands)
    for axes, start in zip(panels, (0.0, last / 2), strict=True):
        for band in bands:
            _band(axes, band, looks[band.variant], start)
        axes.set_xlabel(figure.costs[cost])
        axes.margins(x=0.01)
    panels[0].set_ylabel(figure.metrics[metric])
    panels[1].set_title("the last half", fontsize=8.5, loc="left", color=_QUIET)
    ends = [(band.mean[-1], band.x[-1], band.variant) for band in bands if band.x[-1] >= last / 2]
    _name(panels[1], ends, right=max(x for _, x, _ in ends), n_lines=17)
    return canvas


def _band(axes: Any, band: Band, look: Look, start: float) -> None:
    kept = [index for index, x in enumerate(band.x) if x >= start]
    x, mean = [band.x[i] for i in kept], [band.mean[i] for i in kept]
    axes.plot(x, mean, color=_colour(look), linestyle=_dashes(look), linewidth=1.3)
    known = [i for i in kept if band.low[i] is not None]
    axes.fill_between(
        [band.x[i] for i in known],
        [band.low[i] for i in known],
        [band.high[i] for i in known],
        color=_colour(look),
        alpha=0.15,
        linewidth=0,
    )


def _name(axes: Any, ends: Sequence[tuple[float, float, str]], *, right: float, n_lines: int) -> None:
    """Names of (y, x, name) beside `right`, moved apart where they would overlap; as many as `n_lines` find place."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = (high - low) / n_lines
    ends = sorted(ends)
    at: list[float] = []
    for y, _, _ in ends:
        at.append(max(y, at[-1] + gap) if at else y)
    limit = high
    for index in reversed(range(len(at))):
        at[index] = min(at[index], limit)
        limit = at[index] - gap
    for (y, x, name), place in zip(ends, at, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(right + (right - axes.get_xlim()[0]) * 0.06, place),
            textcoords="data",
            va="center",
            fontsize=7.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _QUIET,
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def _plane(figure: Plane, cost: str, looks: Mapping[str, Look]) -> Any:
    points = figure.points[cost]
    height = max(3.4, 0.8 + 0.17 * len(points))
    canvas, (axes,) = _figure(height)
    front = [point for point in points if point.on_front]
    axes.step(
        [*(p.cost for p in front), max(p.cost for p in points)],
        [*(p.loss for p in front), front[-1].loss],
        where="post",
        color=_QUIET,
        linestyle=":",
        linewidth=1,
    )
    for point in points:
        colour, estimate = _colour(looks[point.variant]), figure.intervals[point.variant]
        if estimate.low is not None and estimate.high is not None:
            axes.plot([point.cost] * 2, [estimate.low, estimate.high], color=colour, linewidth=1.2)
        axes.plot(point.cost, point.loss, "o", color=colour, markerfacecolor=colour if point.on_front else "white")
    axes.margins(x=0.05)
    names = [(point.loss, point.cost, point.variant) for point in points]
    _name(axes, names, right=axes.get_xlim()[1], n_lines=int(6 * (height - 0.5)))
    axes.set(xlabel=figure.costs[cost], ylabel=figure.axis)
    return canvas


def _colour(look: Look | None) -> str:
    return INK["light"] if look is None or look.colour is None else LIGHT[look.colour]


def _dashes(look: Look) -> Any:
    return (0, tuple(float(part) for part in look.dash.split())) if look.dash else "solid"
