"""The figures of synthetic tasks as data: a heat map of accuracy, and accuracy against the size of the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.analysis import Analysis, TaskResult
from gptzoo.ablation.records.tasks import SOLVED
from gptzoo.utils.units import scaled

N_SHADES = 10  # shades of the heat map above the lightest


@dataclass(frozen=True)
class HeatCell:
    """The mean of one model on one task."""

    value: float | None  # None without a trial that is done
    text: str  # the mean, such as "0.983"
    interval: str  # "" with one seed
    solved: str  # seeds that solved it, such as "2/3 solved"
    tooltip: str

    @property
    def shade(self) -> int | None:
        """The shade of the cell, from 0 to `N_SHADES`; None without a value."""
        return None if self.value is None else round(N_SHADES * min(1.0, max(0.0, self.value)))


@dataclass(frozen=True)
class HeatColumn:
    """A task, or a level of it."""

    title: str
    subtitle: str  # length of a sample, and chance


@dataclass(frozen=True)
class HeatMap:
    """A heat map of models and tasks."""

    name: str
    title: str
    caption: str
    columns: Sequence[HeatColumn]
    rows: Mapping[str, Sequence[HeatCell | None]]  # by model; None if the model is not trained on the task
    kind: str = "heatmap"


@dataclass(frozen=True)
class StatePoint:
    """One seed of a model on a task."""

    model: str
    seed: int
    state_bytes: int
    value: float


@dataclass(frozen=True)
class StatePlot:
    """Accuracy against the size of the state, one task at a time."""

    name: str
    title: str
    caption: str
    axis: str  # label of the horizontal axis
    panels: Mapping[str, Sequence[StatePoint]]  # by task
    chance: Mapping[str, float]  # by task
    models: Sequence[str]
    kind: str = "states"


def build_heat_map(analysis: Analysis) -> HeatMap | None:
    """Return the heat map, or None without synthetic tasks."""
    results = analysis.tasks
    if not results:
        return None
    columns = {result.column: result for result in results}
    cells = {(result.model, result.column): _cell(result) for result in results}
    models = dict.fromkeys(result.model for result in results)
    return HeatMap(
        "tasks",
        "Accuracy on synthetic tasks",
        "Means over seeds with confidence intervals, and the number of seeds that solved the task, those with "
        f"at least {SOLVED:g}. Learning a task is often all or nothing. Then the mean is between two groups of seeds, "
        "and the number of solved seeds says more than its interval. Chance is the best prediction without context.",
        [HeatColumn(title, _subtitle(result)) for title, result in columns.items()],
        {model: [cells.get((model, column)) for column in columns] for model in models},
    )


def build_state_plot(analysis: Analysis) -> StatePlot | None:
    """Return the plot of accuracy against the size of the state, or None if no state size is known."""
    panels: dict[str, list[StatePoint]] = {}
    for result in analysis.tasks:
        size = result.metric.state_bytes
        if size:
            points = [StatePoint(result.model, seed, size, value) for seed, value in result.values.items()]
            panels.setdefault(result.column, []).extend(points)
    panels = {task: points for task, points in panels.items() if points}
    if not panels:
        return None
    return StatePlot(
        "states",
        "Accuracy against the size of the state",
        "Each point is a seed. The size is that of the cache or recurrent state of one sample at its full length: it "
        "is all that a model carries from one token to the next. The dashed line is chance.",
        "cache or state of one sample (bytes)",
        panels,
        {result.column: result.metric.chance for result in analysis.tasks},
        list(dict.fromkeys(result.model for result in analysis.tasks)),
    )


def format_share(value: float) -> str:
    """Format a share with three decimals."""
    return f"{value:.3f}"


def solved_text(result: TaskResult) -> str:
    """Return how many seeds solved a task: "2/3 solved"."""
    return f"{result.n_solved}/{len(result.values)} solved"


def _cell(result: TaskResult) -> HeatCell:
    mean = result.mean
    if mean is None:
        return HeatCell(None, "–", "", "no data", f"{result.model} on {result.column}: no data")
    interval = "" if mean.low is None or mean.high is None else f"{format_share(mean.low)}–{format_share(mean.high)}"
    seeds = ", ".join(f"seed {seed}: {value:.4f}" for seed, value in result.values.items())
    state = "unknown" if result.metric.state_bytes is None else f"{scaled(result.metric.state_bytes)}B"
    tooltip = (
        f"{result.model} on {result.column}: {seeds}; probability that a seed solves it: "
        f"{format_share(result.solved_low)} to {format_share(result.solved_high)}; state {state}"
    )
    return HeatCell(mean.value, format_share(mean.value), interval, solved_text(result), tooltip)


def _subtitle(result: TaskResult) -> str:
    return f"{result.metric.length} tokens, chance {result.metric.chance:.3g}"
