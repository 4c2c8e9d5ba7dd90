"""The plan and the result of a scaling ladder, as text for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from gptzoo.ablation.planning.forecast import Forecast
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.scaling.plan_ladder import AXIS, LadderPlan
from gptzoo.ablation.scaling.result import LadderAnalysis, LadderResult
from gptzoo.ablation.scaling.sentences import format_factor
from gptzoo.ablation.scaling.warnings import planned_warnings, too_few_sizes
from gptzoo.ablation.wording import format_count, listed, with_unit
from gptzoo.terminal.durations import format_duration
from gptzoo.terminal.text_table import plain_table, print_lines


def print_ladder_plan(
    ladder: LadderPlan, plan: Plan, folder: Path, forecast: Forecast | None, console: Console
) -> None:
    """Print what the rule makes of each size and variant, with the costs and, if given, the forecast."""
    table = plain_table(
        "variant", ">layers", ">width", ">heads", ">N", ">parameters", ">batch", ">learning rate", ">steps", ">tokens",
        ">FLOPs", ">time/trial", "",
    )  # fmt: skip
    by_label = {variant.choices[AXIS]: variant for variant in plan.variants}
    for run in ladder.runs:
        variant = by_label[run.label]
        seconds = None if forecast is None else forecast.trial_seconds.get(variant.name)
        table.add_row(
            run.variant,
            str(run.n_layers),
            str(run.d_model),
            str(run.n_heads),
            f"{run.n_parameters:,}",
            f"{variant.costs.n_parameters:,}",
            str(run.batch_size),
            "" if run.learning_rate is None else f"{run.learning_rate:.3g}",
            f"{variant.n_steps:,}",
            f"{variant.n_tokens:,}",
            "?" if variant.flops is None else f"{variant.flops:.3g}",
            "" if seconds is None else format_duration(seconds),
            "; ".join(filter(None, ("held out" if run.held_out else "", variant.tuned))),
        )
    console.print(table)
    print_lines(console, ("", *_plan_lines(ladder, plan, folder, forecast)))


def _plan_lines(ladder: LadderPlan, plan: Plan, folder: Path, forecast: Forecast | None) -> Iterator[str]:
    spec = ladder.spec
    yield "N: parameters without embeddings. FLOPs: training FLOPs of one trial, with embeddings and head."
    yield (
        f"{spec.name}: {format_count(1 + len(spec.variants), 'variant')} x {format_count(len(spec.sizes), 'size')} x "
        f"{format_count(len(spec.seeds), 'seed')} = {format_count(len(ladder.runs) * len(spec.seeds), 'trial')} in "
        f"{folder}"
    )
    if spec.tune is not None:
        factors = ", ".join(f"{factor:g}" for factor in sorted(spec.tune.factors))
        n_sizes = spec.tune.n_sizes or len(spec.sizes)
        where = "each size" if n_sizes == len(spec.sizes) else f"the {format_count(n_sizes, 'smallest size')}"
        yield (
            f"before them: {len(plan.tuning)} trials to tune {spec.tune.field}. Each variant at {where} is trained "
            f"with {factors} times its own value, on other seeds, and keeps the value with the lowest mean "
            f"{spec.metric}"
        )
    taken: dict[str, list[str]] = {}
    for variant in plan.variants:
        for setting in variant.recommended:
            taken.setdefault(setting, []).append(variant.choices[AXIS])
    for setting, labels in taken.items():
        yield f"taken along by {listed(labels)}, as recommended: {setting}"
    yield from (f"note: {note}" for note in (*plan.notes, *too_few_sizes(spec)))
    yield from (f"WARNING: {warning.text}" for warning in planned_warnings(ladder, plan))
    if forecast is not None and forecast.total_seconds is not None:
        yield f"estimated time: {format_duration(forecast.total_seconds)} on {forecast.n_workers} workers"


def ladder_plan_as_dict(ladder: LadderPlan, plan: Plan, forecast: Forecast | None) -> dict[str, Any]:
    """Convert the plan to JSON."""
    by_label = {variant.choices[AXIS]: variant for variant in plan.variants}
    return {
        "name": ladder.spec.name,
        "runs": [
            {
                **run.model_dump(mode="json"),
                "tokens": by_label[run.label].n_tokens,
                "flops": by_label[run.label].flops,
                "recommended": list(by_label[run.label].recommended),
            }
            for run in ladder.runs
        ],
        "seeds": list(ladder.spec.seeds),
        "trials": len(plan.trials),
        "tuning": len(plan.tuning),
        "notes": [*plan.notes, *too_few_sizes(ladder.spec)],
        "warnings": [asdict(warning) for warning in planned_warnings(ladder, plan)],
        "forecast": None if forecast is None else asdict(forecast),
    }


def print_ladder(result: LadderResult, console: Console) -> None:
    """Print the points with their residuals and multipliers, and the findings as sentences."""
    if result.analysis is not None:
        _print_points(result, result.analysis, console)
    print_lines(console, ("", *_result_lines(result)))


def _print_points(result: LadderResult, analysis: LadderAnalysis, console: Console) -> None:
    table = plain_table("variant", ">N", ">tokens", ">FLOPs", ">seeds", ">mean", ">residual", ">multiplier")
    multipliers = {(v.variant, m.flops): m.multiplier for v in analysis.variants for m in v.multipliers}
    for point in analysis.points:
        multiplier = multipliers.get((point.variant, point.flops))
        table.add_row(
            point.variant,
            f"{point.n_parameters:,}",
            f"{point.n_tokens:,}",
            f"{point.flops:.3g}",
            str(len(point.losses)),
            f"{point.mean:.4f}",
            f"{point.residual:+.4f}",
            "" if multiplier is None else format_factor(multiplier),
        )
    console.print(table)
    print_lines(console, ["", f"N: parameters without embeddings. Mean and residual: {with_unit(result.metric)}."])


def _result_lines(result: LadderResult) -> Iterator[str]:
    yield result.trained
    yield from map(str, result.warnings)
    if result.n_waiting:
        yield f"Preliminary: {result.n_waiting} of {format_count(result.n_trials, 'trial')} not done yet."
    yield from (f"tuned: {run.label}: {run.chosen}" for run in result.tuned)
    if result.missing:
        yield f"No laws yet: {result.missing}."
    yield from result.findings
    yield f"folder: {result.folder}"
