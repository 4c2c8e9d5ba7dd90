"""A plan as a person, or a script, reads it before anything runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from gptzoo.ablation.planning.folder import trials_as_dicts
from gptzoo.ablation.planning.forecast import Detectable, Forecast
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.terminal.selection import halving_as_dict, planned_rungs
from gptzoo.ablation.terminal.tables import duration, plain_table

_SHOWN = 20  # reasons of exclusions


def print_plan(plan: Plan, folder: Path, forecast: Forecast | None, console: Console) -> None:
    """Variants with exact costs, what is left out and why, and, where there is a forecast, what it will take."""
    table = plain_table("variant", ">parameters", ">FLOPs/token", ">memory", ">steps", ">tokens", ">a trial", "")
    for variant in plan.variants:
        per_token, memory = variant.costs.flops_per_token, variant.costs.memory_bytes
        seconds = None if forecast is None else forecast.trial_seconds.get(variant.name)
        words = ["the baseline"] if variant.name == plan.baseline else []
        table.add_row(
            variant.name,
            f"{variant.costs.n_parameters:,}",
            "?" if per_token is None else f"{per_token:.4g}",
            "?" if memory is None else f"{memory / 2**20:,.0f} MiB",
            f"{variant.n_steps:,}",
            f"{variant.n_tokens:,}",
            "" if seconds is None else duration(seconds),
            "; ".join([*words, *filter(None, (variant.residue, variant.tuned))]),
        )
    console.print(table)
    for line in _lines(plan, folder, forecast):
        console.print(line, markup=False, soft_wrap=True)


def _lines(plan: Plan, folder: Path, forecast: Forecast | None) -> list[str]:
    spec, n = plan.spec, len(plan.variants)
    if plan.contest is not None:
        told = ["", f"{spec.name}: {_how_many(plan)} by successive halving in {folder}", *planned_rungs(plan)]
    else:
        n_trials = len(spec.seeds) * sum(not variant.hopeless for variant in plan.variants)
        told = ["", f"{spec.name}: {n} variants x {len(spec.seeds)} seeds = {n_trials} trials in {folder}"]
    if spec.tune is not None:
        factors = ", ".join(f"{factor:g}" for factor in spec.tune.factors)
        told.append(
            f"before them {len(plan.tuning)} trials that tune {spec.tune.field}: each variant is tried with {factors} "
            f"times its own value, on seeds that are for this only, and keeps what has the lowest mean {spec.metric}"
        )
    told.append(f"compared with {plan.baseline} by {spec.metric}, {'paired by seed' if plan.paired else 'not paired'}")
    reasons = Counter(exclusion.reason for exclusion in plan.exclusions)
    told += [f"left out, {count} of them: {reason}" for reason, count in reasons.most_common(_SHOWN)]
    if len(reasons) > _SHOWN:
        told.append(f"… and more for {len(reasons) - _SHOWN} other reasons; --json has all")
    told += [f"{name} stands for {len(also)} more that describe the same" for name, also in plan.merged.items()]
    told += [f"note: {note}" for note in plan.notes]
    if forecast is not None:
        if forecast.total_seconds is not None:
            told.append(f"estimated {duration(forecast.total_seconds)} on {forecast.n_workers} workers")
        if forecast.memory_bytes is not None:
            told.append(f"estimated {forecast.memory_bytes / 2**30:.2f} GiB for as many of the largest as run at once")
        told.append(_detectable(forecast.detectable, plan))
    return told


def _how_many(plan: Plan) -> str:
    if plan.search is None or plan.search.complete:
        return f"{len(plan.variants)} variants"
    return f"{plan.search.wanted} variants that TPE suggests, {len(plan.variants) - 1} of them so far,"


def _detectable(found: Detectable, plan: Plan) -> str:
    if found.difference is None:
        return "no difference can be detected with one seed: nothing tells how much of it is luck"
    size = f"{found.difference:.2f} sd" if found.in_sd else f"{found.difference:.4f}"
    return (
        f"smallest difference of {plan.spec.metric} that this detects: {size}, with power {plan.spec.power:g} over "
        f"{found.n_comparisons} comparisons by {found.n_seeds} seeds  (spread over seeds: {found.source})"
    )


def plan_as_dict(plan: Plan, forecast: Forecast | None) -> dict[str, Any]:
    """The plan as data."""
    variants = [
        {**asdict(one.as_variant()), "steps": one.n_steps, "tokens": one.n_tokens, "flops": one.flops}
        for one in plan.variants
    ]
    return {
        "name": plan.spec.name,
        "baseline": plan.baseline,
        "axes": dict(plan.axes),
        "factorial": plan.factorial,
        "paired": plan.paired,
        "variants": variants,
        "exclusions": [asdict(exclusion) for exclusion in plan.exclusions],
        "merged": {name: list(also) for name, also in plan.merged.items()},
        "tuning": [{"variant": t.variant, "seed": t.seed, "folder": t.name} for t in plan.tuning],
        "trials": trials_as_dicts(plan),
        "halving": None if plan.contest is None else halving_as_dict(plan),
        "notes": list(plan.notes),
        "forecast": None if forecast is None else asdict(forecast),
    }
