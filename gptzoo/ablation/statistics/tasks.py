"""Results on synthetic tasks: the mean of each metric, and the number of seeds that solved the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gptzoo.ablation.design.axes import label_of
from gptzoo.ablation.records.analysis import Estimate, TaskResult
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.tasks import SOLVED, TaskMetric
from gptzoo.ablation.statistics.contrast import mean_estimate
from gptzoo.utils.proportion import Proportion


def task_results(outcome: Outcome) -> list[TaskResult]:
    """Return the results of each variant in each metric of its task, task by task."""
    results = [_result(outcome, variant, metric) for variant in outcome.variants for metric in variant.task_metrics]
    columns = list(dict.fromkeys(result.column for result in results))
    return sorted(results, key=lambda result: columns.index(result.column))  # stable: variants in the design's order


def task_of(outcome: Outcome, variant: Variant) -> str:
    """Return the choices of a variant on the axes over tasks; without such axes, the name of its corpus."""
    labels = [variant.choices[axis] for axis in outcome.task_axes if axis in variant.choices]
    return ", ".join(labels) or label_of(variant.spec.get("corpus"))


def model_of(outcome: Outcome, variant: Variant) -> str:
    """Return the choices of a variant on all other axes, or its name without axes over tasks."""
    if not outcome.task_axes:
        return variant.name
    axes = [axis for axis, labels in outcome.axes.items() if len(labels) > 1 and axis not in outcome.task_axes]
    return ", ".join(variant.choices[axis] for axis in axes if axis in variant.choices)


def _result(outcome: Outcome, variant: Variant, metric: TaskMetric) -> TaskResult:
    values = outcome.endpoints(variant.name, metric.metric)
    solved = Proportion(sum(value >= SOLVED for value in values.values()), len(values))
    low, high = solved.interval(1 - outcome.level)
    return TaskResult(
        task=task_of(outcome, variant),
        variant=variant.name,
        model=model_of(outcome, variant),
        metric=metric,
        values=values,
        mean=mean_of_shares(list(values.values()), outcome.level) if values else None,
        n_solved=solved.hits,
        solved_low=low,
        solved_high=high,
    )


def mean_of_shares(values: Sequence[float], alpha: float) -> Estimate:
    """Return the mean of shares. Its interval is cut at 0 and 1."""
    estimate = mean_estimate(values, alpha)
    if estimate.low is None or estimate.high is None:
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))
