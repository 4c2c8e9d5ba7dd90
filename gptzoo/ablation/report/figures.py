"""The figures of a report as data, which the page draws to be read and matplotlib to be printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from gptzoo.ablation.records.analysis import Analysis, Band, Comparison, Cost, Effect, Estimate, Point, Verdict
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.shown import interval, with_unit

COSTS: Mapping[Cost, str] = {
    "step": "optimizer step",
    "tokens": "training tokens",
    "flops": "training FLOPs",
    "seconds": "seconds of training",
}
PRICES: Mapping[str, str] = {
    "parameters": "parameters",
    "seconds per token": "seconds per training token",
    "memory": "bytes of a training step",
    "cache": "bytes of the cache of a full context",
}

MOST_CURVES = 8


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest plot."""

    label: str
    value: float
    low: float | None
    high: float | None
    shown: str  # the three in words
    verdict: Verdict | None  # None for what is compared with nothing
    dots: Sequence[float]  # of single seeds
    tip: str  # what to say of it when asked


@dataclass(frozen=True)
class Forest:
    """Estimates below each other with their intervals."""

    name: str  # of its files
    title: str
    caption: str
    axis: str
    rows: Sequence[ForestRow]
    reference: float | None  # a vertical line
    margin: float  # around it, what counts as the same
    kind: str = "forest"


@dataclass(frozen=True)
class Curves:
    """Bands of each variant against one of several costs."""

    name: str
    title: str
    caption: str
    metrics: Mapping[str, str]  # label of the vertical axis, by metric
    costs: Mapping[str, str]  # label of the horizontal axis, by cost
    bands: Sequence[Band]
    first: Sequence[str]  # the variants that can be told apart in one picture: the baseline and the best
    kind: str = "curves"


@dataclass(frozen=True)
class Plane:
    """Variants by loss and one of several costs, with the front of those that none beats in both."""

    name: str
    title: str
    caption: str
    axis: str
    costs: Mapping[str, str]
    points: Mapping[str, Sequence[Point]]
    intervals: Mapping[str, Estimate]
    kind: str = "plane"


Figure = Forest | Curves | Plane


def figures(outcome: Outcome, analysis: Analysis) -> list[Figure]:
    """Those that there is data for, in the order in which a reader wants them."""
    return [
        *_means(outcome, analysis),
        *_differences(outcome, analysis),
        *_curves(outcome, analysis),
        *_effects(outcome, analysis),
        *_fronts(outcome, analysis),
    ]


def _means(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    rows = []
    for name, estimate in analysis.ranking.items():
        seeds = outcome.endpoints(name)
        told = ", ".join(f"seed {seed}: {value:.4f}" for seed, value in seeds.items())
        rows.append(_row(name, estimate, None, list(seeds.values()), told))
    if rows:
        base = analysis.ranking.get(analysis.baseline)
        yield Forest(
            "means",
            f"{outcome.metric} of each variant",
            f"Dots are seeds, squares their means, bars {_percent(outcome)} confidence intervals of each mean by "
            "itself. Whether two of those overlap is no test; the next figure is."
            + (f" The line is the mean of {analysis.baseline}." if base else ""),
            with_unit(outcome.metric),
            rows,
            base.value if base else None,
            0.0,
        )


def _differences(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    rows = [
        _row(one.variant, one.difference, one.verdict, _pairs(outcome, one), one.sentence)
        for one in analysis.comparisons
        if one.difference is not None
    ]
    if rows:
        yield Forest(
            "differences",
            f"Difference from {analysis.baseline}",
            f"Left of 0 is better than {analysis.baseline}. Bars are confidence intervals, each at the level of its "
            f"step in Holm's correction (α = {outcome.alpha:g}); the verdicts are read off them. The shaded margin of "
            f"±{outcome.margin:g} counts as the same. Dots are seeds, minus the baseline's run of the same seed where "
            "runs are paired, or else its mean.",
            f"Δ {with_unit(outcome.metric)}",
            rows,
            0.0,
            outcome.margin,
        )


def _pairs(outcome: Outcome, one: Comparison) -> list[float]:
    own, base = outcome.endpoints(one.variant), outcome.endpoints(outcome.baseline)
    if one.paired:
        return [own[seed] - base[seed] for seed in own if seed in base]
    return [value - mean(base.values()) for value in own.values()] if base else []


def _curves(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    if not analysis.bands:
        return
    metrics = dict.fromkeys(band.metric for band in analysis.bands)
    known = {band.against for band in analysis.bands}
    yield Curves(
        "curves",
        "Learning curves",
        f"Mean over seeds with its {_percent(outcome)} confidence interval at each point by itself"
        " (none where a variant has one seed).",
        {metric: with_unit(metric) for metric in metrics},
        {cost: label for cost, label in COSTS.items() if cost in known},
        analysis.bands,
        list(dict.fromkeys([outcome.baseline, *analysis.ranking, *(band.variant for band in analysis.bands)]))[
            :MOST_CURVES
        ],
    )


def _effects(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    main = [one for one in analysis.effects if len(one.choices) == 1]
    joint = [one for one in analysis.effects if len(one.choices) > 1]
    axis = f"Δ {with_unit(outcome.metric)}"
    if main:
        yield Forest(
            "main-effects",
            "Main effects",
            "What a choice changes against the baseline's on the same axis, averaged over all combinations of the "
            "other axes. Left of 0 is better. Intervals are at the level of their step in Holm's correction over all "
            f"effects (α = {outcome.alpha:g}).",
            axis,
            [_effect_row(one) for one in main],
            0.0,
            outcome.margin,
        )
    if joint:
        yield Forest(
            "interactions",
            "Interactions",
            "What two choices change together beyond the sum of what each changes alone; 0 where they add up.",
            axis,
            [_effect_row(one) for one in joint],
            0.0,
            outcome.margin,
        )


def _effect_row(one: Effect) -> ForestRow:
    label = " × ".join(one.choices.values())
    if len(one.choices) == 1:
        (axis,) = one.choices
        label = f"{axis.rpartition('.')[2]}: {label} – {one.reference[axis]}"
    return _row(label, one.estimate, one.verdict, [], one.sentence)


def _fronts(outcome: Outcome, analysis: Analysis) -> Iterator[Figure]:
    if analysis.fronts:
        yield Plane(
            "front",
            "Loss against cost",
            "Filled: on the front, no other variant is as good in both and better in one. The front is of means, and "
            f"no test; bars are {_percent(outcome)} confidence intervals.",
            with_unit(outcome.metric),
            {cost: PRICES.get(cost, cost) for cost in analysis.fronts},
            analysis.fronts,
            analysis.ranking,
        )


def _row(label: str, estimate: Estimate, verdict: Verdict | None, dots: Sequence[float], tip: str) -> ForestRow:
    return ForestRow(label, estimate.value, estimate.low, estimate.high, interval(estimate), verdict, dots, tip)


def _percent(outcome: Outcome) -> str:
    return f"{100 * (1 - outcome.alpha):.4g}%"
