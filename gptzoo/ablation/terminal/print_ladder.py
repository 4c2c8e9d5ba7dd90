"""The plan and the result of a scaling ladder, as text for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from gptzoo.ablation.planning.forecast import Forecast
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.scaling.ladder import LadderResult, plan_caveats
from gptzoo.ablation.scaling.plan_ladder import AXIS, LadderPlan
from gptzoo.ablation.scaling.sentences import format_factor, ladder_sentences
from gptzoo.ablation.terminal.tables import format_duration, plain_table


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
    n_trials = len(ladder.runs) * len(ladder.spec.seeds)
    n_tuning = f" and {len(plan.tuning)} trials to tune {ladder.spec.tune.field}" if ladder.spec.tune else ""
    lines = [
        "",
        "N: parameters without embeddings. FLOPs: training FLOPs with embeddings and head.",
        f"{ladder.spec.name}: {len(ladder.runs)} runs x {len(ladder.spec.seeds)} seeds = {n_trials} trials{n_tuning} "
        f"in {folder}",
        *(f"note: {note}" for note in plan.notes),
        *(f"WARNING: {caveat}" for caveat in plan_caveats(ladder)),
    ]
    if forecast is not None and forecast.total_seconds is not None:
        workers = forecast.n_workers
        lines.append(f"estimated time: {format_duration(forecast.total_seconds)} on {workers} workers")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def ladder_plan_as_dict(ladder: LadderPlan, plan: Plan, forecast: Forecast | None) -> dict[str, Any]:
    """Convert the plan to JSON."""
    by_label = {variant.choices[AXIS]: variant for variant in plan.variants}
    return {
        "name": ladder.spec.name,
        "runs": [
            {**asdict(run), "tokens": by_label[run.label].n_tokens, "flops": by_label[run.label].flops}
            for run in ladder.runs
        ],
        "seeds": list(ladder.spec.seeds),
        "trials": len(plan.trials),
        "tuning": len(plan.tuning),
        "caveats": list(plan_caveats(ladder)),
        "forecast": None if forecast is None else asdict(forecast),
    }


def print_ladder(result: LadderResult, console: Console) -> None:
    """Print the points with their residuals and multipliers, and the findings as sentences."""
    analysis = result.analysis
    lines = []
    if analysis is None:
        lines.append(f"No laws yet: {result.missing}.")
    else:
        table = plain_table("variant", ">N", ">tokens", ">FLOPs", ">seeds", ">mean", ">residual", ">multiplier")
        multipliers = {(v.variant, m.flops): m.multiplier for v in analysis.variants for m in v.multipliers}
        for point in analysis.residuals:
            multiplier = multipliers.get((point.variant, point.flops))
            table.add_row(
                point.variant,
                f"{point.n_parameters:,}",
                f"{point.n_tokens:,}",
                f"{point.flops:.3g}",
                str(len(point.losses)),
                f"{sum(point.losses) / len(point.losses):.4f}",
                f"{point.residual:+.4f}",
                "" if multiplier is None else format_factor(multiplier),
            )
        console.print(table)
        lines += ["", *ladder_sentences(analysis, result.plan.spec.extrapolate)]
    for line in [*lines, *(f"Warning: {caveat}." for caveat in result.caveats), f"folder: {result.outcome.folder}"]:
        console.print(line, markup=False, soft_wrap=True)


def ladder_as_dict(result: LadderResult) -> dict[str, Any]:
    """Convert the result to JSON."""
    analysis = result.analysis
    return {
        "format_version": 1,
        "name": result.plan.spec.name,
        "metric": result.plan.spec.metric,
        "analysis": None if analysis is None else asdict(analysis),
        "missing": result.missing,
        "sentences": [] if analysis is None else list(ladder_sentences(analysis, result.plan.spec.extrapolate)),
        "caveats": list(result.caveats),
        "runs": [asdict(run) for run in result.plan.runs],
        "folder": str(result.outcome.folder),
        "environment": dict(result.outcome.environment),
    }
