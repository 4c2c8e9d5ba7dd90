"""The plan of an ablation, as text for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from gptzoo.ablation.planning.folder import lengths_as_dicts, trials_as_dicts
from gptzoo.ablation.planning.forecast import Detectable, Forecast
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.terminal.print_rungs import halving_as_dict, planned_rungs
from gptzoo.ablation.warnings.results import variant_warnings
from gptzoo.ablation.wording import better_direction, format_count, unit_of
from gptzoo.terminal.durations import format_duration
from gptzoo.terminal.text_table import plain_table, print_lines

_N_REASONS_SHOWN = 20


def print_plan(plan: Plan, folder: Path, forecast: Forecast | None, console: Console) -> None:
    """Print the variants with their costs, the exclusions with reasons and, if given, the forecast."""
    table = plain_table("variant", ">parameters", ">FLOPs/token", ">memory", ">steps", ">tokens", ">time/trial", "")
    for variant in plan.variants:
        per_token, memory = variant.costs.flops_per_token, variant.costs.memory_bytes
        seconds = None if forecast is None else forecast.trial_seconds.get(variant.name)
        of_task = "the baseline of its task" if variant.name == variant.reference else ""
        baseline = "the baseline" if variant.name == plan.baseline else of_task
        table.add_row(
            variant.name,
            f"{variant.costs.n_parameters:,}",
            "?" if per_token is None else f"{per_token:.4g}",
            "?" if memory is None else f"{memory / 2**20:,.0f} MiB",
            f"{variant.n_steps:,}",
            f"{variant.n_tokens:,}",
            "" if seconds is None else format_duration(seconds),
            "; ".join(filter(None, (baseline, variant.residue, variant.tuned))),
        )
    console.print(table)
    print_lines(console, ("", *_summary(plan, folder), *_exclusions_and_notes(plan), *_forecast(plan, forecast)))


def _summary(plan: Plan, folder: Path) -> Iterator[str]:
    spec, n_seeds = plan.spec, len(plan.spec.seeds)
    if plan.halving is not None:
        yield f"{spec.name}: {_n_variants(plan)} by successive halving in {folder}"
        yield from planned_rungs(plan)
    else:
        n_trials = n_seeds * sum(not variant.tuning_failed for variant in plan.variants)
        variants, seeds = format_count(len(plan.variants), "variant"), format_count(n_seeds, "seed")
        yield f"{spec.name}: {variants} x {seeds} = {format_count(n_trials, 'trial')} in {folder}"
    if spec.baseline_lengths:
        yield _lengths(plan)
    if spec.tune is not None:
        factors = ", ".join(f"{factor:g}" for factor in sorted(spec.tune.factors))
        yield (
            f"before the comparison: {format_count(len(plan.tuning), 'trial')} to tune {spec.tune.field}. Each variant "
            f"is trained with {factors} times its own value, on seeds not used in the comparison, and keeps the value "
            f"with the best mean {spec.metric}"
        )
        if n := plan.n_extension_trials:
            yield f"up to {format_count(n, 'more trial')} to extend the grids whose best value is at an edge"
    metric = f"{spec.metric} ({better_direction(plan.higher_is_better)})"
    baseline = "the baseline of the same task" if plan.task_axes else plan.baseline
    yield f"comparison with {baseline} by {metric}, {'paired by seed' if plan.paired else 'not paired'}"


def _lengths(plan: Plan) -> str:
    """Return a sentence on the baseline at other lengths."""
    baseline, seeds = plan.baseline, format_count(len(plan.spec.seeds), "seed")
    if not plan.baseline_lengths:
        assert plan.spec.tune is not None  # a baseline that is not tuned has its lengths
        return f"once {plan.spec.tune.field} is tuned, {baseline} is also trained for other numbers of steps"
    steps = ", ".join(f"{length.n_steps:,} (x{length.multiple:g})" for length in plan.baseline_lengths)
    n_trials = sum(len(length.trials) for length in plan.baseline_lengths)
    return (
        f"{baseline} is also trained for {steps} steps x {seeds} = {format_count(n_trials, 'trial')}, to estimate "
        f"what it needs to reach the {plan.spec.metric} of each variant"
    )


def _n_variants(plan: Plan) -> str:
    if plan.search is None or plan.search.complete:
        return format_count(len(plan.variants), "variant")
    return f"{plan.search.n_wanted} variants suggested by TPE ({len(plan.variants) - 1} so far)"


def _exclusions_and_notes(plan: Plan) -> Iterator[str]:
    reasons = Counter(exclusion.reason for exclusion in plan.exclusions)
    for reason, n in reasons.most_common(_N_REASONS_SHOWN):
        yield f"excluded: {n} {'combination' if n == 1 else 'combinations'} of choices: {reason}"
    if len(reasons) > _N_REASONS_SHOWN:
        yield f"… and more for {len(reasons) - _N_REASONS_SHOWN} other reasons; --json shows all"
    for name, merged in plan.merged.items():
        yield f"{name} stands for {len(merged)} more combinations of choices with the same spec"
    for variant in plan.variants:
        if variant.recommended:
            yield f"{variant.name} takes along what is recommended: {'; '.join(variant.recommended)}"
    for note in plan.notes:
        yield f"note: {note}"
    for warning in _all_warnings(plan):
        yield f"WARNING: {warning.text}"


def _all_warnings(plan: Plan) -> list[ComparisonWarning]:
    """Return the warnings of the plan and those that follow from its variants alone."""
    variants = [variant.as_variant() for variant in plan.variants]
    of_variants = variant_warnings(variants, plan.baseline, metric=plan.spec.metric, budget=plan.spec.budget)
    return [*plan.warnings, *of_variants]


def _forecast(plan: Plan, forecast: Forecast | None) -> Iterator[str]:
    if forecast is None:
        return
    if forecast.total_seconds is not None:
        yield f"estimated time: {format_duration(forecast.total_seconds)} on {forecast.n_workers} workers"
    if forecast.extension_seconds:
        yield f"estimated time to extend every grid to its limit: {format_duration(forecast.extension_seconds)} more"
    if forecast.memory_bytes is not None:
        gib = forecast.memory_bytes / 2**30
        yield f"estimated memory: {gib:.2f} GiB, if the largest trials run at the same time"
    yield _detectable(forecast.detectable, plan)


def _detectable(detectable: Detectable, plan: Plan) -> str:
    if detectable.difference is None:
        return "no difference can be detected with one seed, because the spread over seeds is unknown; use more seeds"
    unit = "standard deviations over seeds" if detectable.in_sd else unit_of(plan.spec.metric)
    difference = f"{detectable.difference:.{2 if detectable.in_sd else 4}f} {unit}".rstrip()
    return (
        f"smallest detectable difference of {plan.spec.metric}: {difference}, with power {plan.spec.power:g} for "
        f"{format_count(detectable.n_comparisons, 'comparison')} with {format_count(detectable.n_seeds, 'seed')}  "
        f"(standard deviation over seeds: {detectable.source})"
    )


def plan_as_dict(plan: Plan, forecast: Forecast | None) -> dict[str, Any]:
    """Convert the plan to JSON."""
    variants = [
        {
            **asdict(variant.as_variant()),
            "steps": variant.n_steps,
            "tokens": variant.n_tokens,
            "flops": variant.flops,
        }
        for variant in plan.variants
    ]
    return {
        "name": plan.spec.name,
        "baseline": plan.baseline,
        "axes": dict(plan.axes),
        "factorial": plan.factorial,
        "paired": plan.paired,
        "higher_is_better": plan.higher_is_better,
        "task_axes": list(plan.task_axes),
        "variants": variants,
        "exclusions": [asdict(exclusion) for exclusion in plan.exclusions],
        "merged": {name: list(merged) for name, merged in plan.merged.items()},
        "tuning": [{"variant": t.variant, "seed": t.seed, "folder": t.name} for t in plan.tuning],
        "trials": trials_as_dicts(plan),
        "baseline_lengths": lengths_as_dicts(plan),
        "halving": None if plan.halving is None else halving_as_dict(plan),
        "notes": list(plan.notes),
        "warnings": [warning.text for warning in _all_warnings(plan)],
        "warning_records": [asdict(warning) for warning in _all_warnings(plan)],
        "extension_trials": plan.n_extension_trials,
        "forecast": None if forecast is None else asdict(forecast),
    }
