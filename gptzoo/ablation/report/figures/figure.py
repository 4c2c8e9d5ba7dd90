"""The figures of a report as data. The HTML page draws them with JavaScript, and `static_figures` with matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from gptzoo.ablation.records.analysis import Analysis, Band, Comparison, Cost, Effect, Estimate, ParetoPoint, Verdict
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.figures.task_figures import StatePlot, build_state_plot
from gptzoo.ablation.report.formatting import format_estimate
from gptzoo.ablation.wording import better_sign, with_unit

TRAINING_COSTS: Mapping[Cost, str] = {
    "step": "optimizer step",
    "tokens": "training tokens",
    "flops": "training FLOPs",
    "seconds": "seconds of training",
}
"""Axis labels of learning curves, by cost."""

PARETO_COSTS: Mapping[str, str] = {
    "parameters": "parameters",
    "seconds per token": "seconds per training token",
    "memory": "memory of a training step (bytes)",
    "cache": "KV cache of a full context (bytes)",
}
"""Axis labels of Pareto fronts, by cost."""

MIN_CURVE_POINTS = 3
"""Points of a learning curve; two are only a straight line."""

MIN_PART_POINTS = 5
"""Points of a curve in a part of the training that a figure shows alone."""

MIN_PARETO_POINTS = 3
"""Variants in a figure of the metric against a cost; the ranking says as much of two."""

MAX_INITIAL_CURVES = 8  # variants in the learning curves before a reader selects others


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str  # value and interval
    verdict: Verdict | None  # None if the row is not a comparison
    dots: Sequence[float]  # values of single seeds
    tooltip: str


@dataclass(frozen=True)
class ForestPlot:
    """A forest plot: estimates with their intervals, one per row."""

    name: str  # base name of the files
    title: str
    caption: str
    axis: str  # label of the horizontal axis
    rows: Sequence[ForestRow]
    reference: float | None  # position of a vertical line
    margin: float  # half the width of the shaded area around the reference
    kind: str = "forest"


@dataclass(frozen=True)
class LearningCurves:
    """Learning curves: a band per variant against one of several costs."""

    name: str
    title: str
    caption: str
    metrics: Mapping[str, str]  # label of the vertical axis, by metric
    costs: Mapping[str, str]  # label of the horizontal axis, by cost
    bands: Sequence[Band]
    initially_shown: Sequence[str]  # variants: the baseline and the best, as many as one figure can show
    min_part_points: int = MIN_PART_POINTS  # a part in which every curve has fewer is replaced by a longer one
    kind: str = "curves"


@dataclass(frozen=True)
class ParetoPlot:
    """Loss against one of several costs, with the Pareto front."""

    name: str
    title: str
    caption: str
    axis: str  # label of the vertical axis
    costs: Mapping[str, str]  # label of the horizontal axis, by cost
    points: Mapping[str, Sequence[ParetoPoint]]  # by cost
    intervals: Mapping[str, Estimate]  # of the mean loss, by variant
    kind: str = "pareto"


@dataclass(frozen=True)
class ScalingMark:
    """A point of a scaling plot."""

    y: float
    x: float
    low: float | None  # None without an interval
    high: float | None  # None if the interval has no upper end
    tooltip: str
    is_ring: bool = False  # drawn as a ring in place of a dot


@dataclass(frozen=True)
class ScalingSeries:
    """The points of a variant in a scaling plot, and its law."""

    variant: str
    marks: Sequence[ScalingMark]
    curve: Sequence[tuple[float, float, float, float]]  # x, y, and the ends of the band


@dataclass(frozen=True)
class ScalingPlot:
    """A quantity of each variant against training compute, on a logarithmic axis."""

    name: str
    title: str
    caption: str
    x_axis: str  # label of the horizontal axis
    axis: str  # label of the vertical axis
    series: Sequence[ScalingSeries]
    reference: float | None = None  # position of a horizontal line
    log_y: bool = False
    kind: str = "scaling"


Figure = ForestPlot | LearningCurves | ParetoPlot | ScalingPlot | StatePlot


def build_figures(outcome: Outcome, analysis: Analysis) -> list[Figure]:
    """Return all figures for which there is data, in the order of the report."""
    states = build_state_plot(analysis)
    return [
        *([states] if states else []),
        *_means(outcome, analysis),
        *_differences(outcome, analysis),
        *_learning_curves(outcome, analysis),
        *_effects(outcome, analysis),
        *_pareto_fronts(outcome, analysis),
    ]


def _means(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    rows = []
    for name, estimate in analysis.ranking.items():
        endpoints = outcome.endpoints(name)
        tooltip = ", ".join(f"seed {seed}: {value:.4f}" for seed, value in endpoints.items())
        rows.append(_row(name, estimate, None, list(endpoints.values()), tooltip))
    if rows:
        base = None if outcome.task_axes else analysis.ranking.get(analysis.baseline)
        yield ForestPlot(
            "means",
            f"{outcome.metric} of each variant",
            f"Dots are seeds, squares are their means, and bars are {_confidence(outcome)} confidence intervals of the "
            "means. Overlap of two intervals is not a test of their difference; see the next figure for the tests."
            + (f" The vertical line is the mean of {analysis.baseline}." if base else ""),
            with_unit(outcome.metric),
            rows,
            base.value if base else None,
            0.0,
        )


def _differences(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    rows = [
        _row(
            comparison.variant,
            comparison.difference,
            comparison.verdict,
            _seed_differences(outcome, comparison),
            comparison.sentence,
        )
        for comparison in analysis.comparisons
        if comparison.difference is not None
    ]
    baseline = "the baseline of the same task" if outcome.task_axes else analysis.baseline
    if rows:
        yield ForestPlot(
            "differences",
            f"Difference from {baseline}",
            f"{better_sign(outcome.higher_is_better).capitalize()} differences are better than {baseline}. "
            "Bars are confidence intervals with Holm's "
            f"correction (α = {outcome.level:.3g}), which determine the verdicts. The shaded margin of "
            f"±{outcome.margin:g} counts as the same. Dots are seeds, minus the baseline's run of the same seed if "
            "runs are paired, and otherwise minus its mean.",
            f"Δ {with_unit(outcome.metric)}",
            rows,
            0.0,
            outcome.margin,
        )


def _seed_differences(outcome: Outcome, comparison: Comparison) -> list[float]:
    endpoints = outcome.endpoints(comparison.variant)
    base = outcome.endpoints(outcome.reference_of(comparison.variant))
    if comparison.paired:
        return [endpoints[seed] - base[seed] for seed in endpoints if seed in base]
    return [value - mean(base.values()) for value in endpoints.values()] if base else []


def _learning_curves(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    bands = [band for band in analysis.bands if len(band.x) >= MIN_CURVE_POINTS]
    if not bands:
        return
    metrics = dict.fromkeys(band.metric for band in bands)
    known_costs = {band.against for band in bands}
    variants = dict.fromkeys([outcome.baseline, *analysis.ranking, *(band.variant for band in bands)])
    of_task = [name for name in variants if outcome.reference_of(name) == outcome.baseline]
    yield LearningCurves(
        "curves",
        "Learning curves",
        f"Lines are means over seeds. Bands are pointwise {_confidence(outcome)} confidence intervals; a variant with "
        "one seed has none.",
        {metric: with_unit(metric) for metric in metrics},
        {cost: label for cost, label in TRAINING_COSTS.items() if cost in known_costs},
        bands,
        of_task[:MAX_INITIAL_CURVES],
    )


def _effects(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    main_effects = [effect for effect in analysis.effects if len(effect.choices) == 1]
    interactions = [effect for effect in analysis.effects if len(effect.choices) > 1]
    axis = f"Δ {with_unit(outcome.metric)}"
    if main_effects:
        yield ForestPlot(
            "main-effects",
            "Main effects",
            "The effect of a choice compared with the baseline's choice on the same axis, averaged over all "
            f"combinations of the other axes. {better_sign(outcome.higher_is_better).capitalize()} effects are better. "
            "Intervals include Holm's correction over all "
            f"effects (α = {outcome.level:.3g}).",
            axis,
            [_effect_row(effect) for effect in main_effects],
            0.0,
            outcome.margin,
        )
    if interactions:
        yield ForestPlot(
            "interactions",
            "Interactions",
            "The effect of two choices together beyond the sum of their separate effects; 0 if the effects add up.",
            axis,
            [_effect_row(effect) for effect in interactions],
            0.0,
            outcome.margin,
        )


def _effect_row(effect: Effect) -> ForestRow:
    label = " × ".join(effect.choices.values())
    if len(effect.choices) == 1:
        (axis,) = effect.choices
        label = f"{axis.rpartition('.')[2]}: {label} – {effect.reference[axis]}"
    return _row(label, effect.estimate, effect.verdict, [], effect.sentence)


def _pareto_fronts(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    value = outcome.metric if outcome.higher_is_better else "loss"
    fronts = {
        cost: points
        for cost, points in analysis.fronts.items()
        if len(points) >= MIN_PARETO_POINTS and len({point.cost for point in points}) > 1
    }
    if fronts:
        yield ParetoPlot(
            "front",
            f"{value[0].upper()}{value[1:]} against cost",
            f"Filled points are on the Pareto front: no other variant is at least as good in both {value} and cost and "
            f"better in one. The front uses means, without a test. Bars are {_confidence(outcome)} confidence "
            "intervals.",
            with_unit(outcome.metric),
            {cost: PARETO_COSTS.get(cost, cost) for cost in fronts},
            fronts,
            analysis.ranking,
        )


def _row(label: str, estimate: Estimate, verdict: Verdict | None, dots: Sequence[float], tooltip: str) -> ForestRow:
    text = format_estimate(estimate)
    return ForestRow(label, estimate.value, estimate.low, estimate.high, text, verdict, dots, tooltip)


def _confidence(outcome: Outcome) -> str:
    return f"{100 * (1 - outcome.level):.4g}%"
