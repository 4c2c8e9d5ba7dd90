"""What a person sees of an ablation: its plan, how it is doing, and what came of it."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gptzoo.ablation.outcome import Outcome
from gptzoo.ablation.plan import Plan
from gptzoo.ablation.runner import Runner
from gptzoo.ablation.trial import State

_SHOWN_EXCLUSIONS = 20


def print_plan(plan: Plan, folder: Path, *, to_stderr: bool = False) -> None:
    """Everything that is going to be done, and what is not and why."""
    console = Console(stderr=to_stderr, highlight=False)
    table = _table("variant", ">parameters", ">FLOPs/token", ">steps", ">tokens", "")
    for variant in plan.variants:
        per_token = variant.costs.flops_per_token
        table.add_row(
            variant.name,
            f"{variant.costs.n_parameters:,}",
            "?" if per_token is None else f"{per_token:.3g}",
            f"{variant.n_steps:,}",
            f"{variant.n_tokens:,}",
            "the baseline" if variant.name == plan.baseline else variant.residue,
        )
    console.print(table)
    n_seeds = len(plan.spec.seeds)
    console.print(
        f"\n{plan.spec.name}: {len(plan.variants)} variants x {n_seeds} seeds = {len(plan.trials)} trials in {folder}"
    )
    reasons = Counter(exclusion.reason for exclusion in plan.exclusions)
    for reason, n in reasons.most_common(_SHOWN_EXCLUSIONS):
        console.print(f"{n} left out: {reason}", markup=False)
    if len(reasons) > _SHOWN_EXCLUSIONS:
        console.print(f"… and for {len(reasons) - _SHOWN_EXCLUSIONS} more reasons: see variants.json")
    for name, also in plan.merged.items():
        console.print(f"{name} stands for {len(also)} more points that describe the same", markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """The plan as data."""
    return {
        "name": plan.spec.name,
        "baseline": plan.baseline,
        "axes": dict(plan.axes),
        "factorial": plan.factorial,
        "paired": plan.paired,
        "variants": [
            {
                **asdict(variant.as_variant()),
                "steps": variant.n_steps,
                "tokens": variant.n_tokens,
                "flops": variant.flops,
            }
            for variant in plan.variants
        ],
        "exclusions": [asdict(exclusion) for exclusion in plan.exclusions],
        "merged": {name: list(also) for name, also in plan.merged.items()},
        "trials": [{"variant": t.variant, "seed": t.seed, "folder": t.name} for t in plan.trials],
        "notes": list(plan.notes),
    }


def outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    """What has been found, as data: each trial with its state and the metric at its end."""
    return {
        "name": outcome.name,
        "baseline": outcome.baseline,
        "metric": outcome.metric,
        "states": dict(Counter(trial.state for trial in outcome.trials)),
        "trials": [
            {
                "variant": trial.variant,
                "seed": trial.seed,
                "state": trial.state,
                "reason": trial.reason,
                outcome.metric: trial.last(outcome.metric),
            }
            for trial in outcome.trials
        ],
    }


def print_outcome(outcome: Outcome) -> None:
    """A line for each variant with the metric at the end of its trials, and every failure with its reason."""
    console = Console(highlight=False)
    table = _table("variant", ">seeds", f">{outcome.metric}", ">sd", ">parameters")
    for variant in outcome.variants:
        values = list(outcome.endpoints(variant.name).values())
        table.add_row(
            variant.name,
            f"{len(values)}/{len(outcome.trials_of(variant.name))}",
            f"{statistics.fmean(values):.4f}" if values else "-",
            f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-",
            f"{variant.n_parameters:,}",
        )
    console.print(table)
    _print_failures(outcome, console)


def print_status(outcome: Outcome) -> None:
    """How far each trial is."""
    console = Console(highlight=False)
    counts = Counter(trial.state for trial in outcome.trials)
    print_outcome(outcome)
    told = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    console.print(f"\n{outcome.name}: {len(outcome.trials)} trials: {told}")


def _print_failures(outcome: Outcome, console: Console) -> None:
    for trial in outcome.trials:
        if trial.state == "failed":
            console.print(f"failed: {trial.variant} seed {trial.seed}: {trial.reason}", markup=False)


class Watcher:
    """Tells on stderr what becomes of trials."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.known: dict[str, State] = {}
        self.started = time.monotonic()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, plan: Plan, runner: Runner, states: Mapping[str, State]) -> None:
        n_done = sum(state in ("done", "failed") for state in states.values())
        for trial in plan.trials:
            state = states[trial.name]
            if state != self.known.get(trial.name) and state in ("done", "failed"):
                self.console.print(f"{n_done}/{len(states)}  {state}: {trial.variant} seed {trial.seed}", markup=False)
        self.known = dict(states)


def _table(*columns: str) -> Table:
    """A plain table; a column whose name begins with > is one of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    return table
