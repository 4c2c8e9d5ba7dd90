"""The rungs of a selection by successive halving, as a table for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.selection import RungEntry, RungTrial, Selection
from gptzoo.ablation.selection.halving import rung_sizes
from gptzoo.ablation.wording import format_count
from gptzoo.terminal.text_table import plain_table


def print_rungs(selection: Selection, console: Console) -> None:
    """Print a table with a row for each rung: its step, its progress, and the number of promoted variants."""
    table = plain_table(">rung", ">step", ">variants", ">trials", ">promoted", "best")
    for rung in selection.rungs:
        states = _count_states(rung.entries)
        n_ended = states["done"] + states["failed"]
        best = next((entry for entry in rung.entries if entry.mean is not None), None)
        table.add_row(
            f"{rung.number}/{selection.n_rungs}",
            _step_range([entry.step for entry in rung.entries]),
            str(len(rung.entries)),
            f"{n_ended}/{states.total()}",
            str(len(rung.promoted(selection.baseline)) + 1) if rung.decided else "-",
            f"{best.variant} {best.mean:.4f}" if best else "-",
        )
    console.print(table)
    console.print()


def planned_rungs(plan: Plan) -> Iterator[str]:
    """Yield a line of text for each planned rung, one for the final comparison, and one for the steps saved."""
    spec, halving = plan.spec, plan.halving
    assert spec.halving is not None
    assert halving is not None
    n_seeds, n_rungs = len(halving.seeds), len(spec.halving.fractions)
    seeds = f"seed {halving.seeds[0]}" if n_seeds == 1 else "seeds " + ", ".join(map(str, halving.seeds))
    sizes = rung_sizes(halving.n_expected, halving.eta, n_rungs)
    for number, n in enumerate(sizes[:-1]):
        step = _step_range([steps[number] for steps in halving.steps.values()])
        trials = format_count((n + 1) * n_seeds, "trial")
        yield f"rung {number + 1}, step {step}: {format_count(n, 'variant')} and the baseline on {seeds}: {trials}"
    trials = format_count((sizes[-1] + 1) * len(spec.seeds), "trial")
    final_seeds = f"{format_count(len(spec.seeds), 'seed')} not used in the rungs"
    yield f"final comparison: {format_count(sizes[-1], 'variant')} and the baseline on {final_seeds}: {trials}"
    steps, steps_without = _total_steps(plan)
    saved = 1 - steps / steps_without
    yield f"about {steps:,} steps in total instead of {steps_without:,} without halving: {saved:.0%} saved"


def halving_as_dict(plan: Plan) -> dict[str, Any]:
    """Convert the planned rungs to JSON."""
    halving = plan.halving
    assert halving is not None
    steps, steps_without = _total_steps(plan)
    return {
        "seeds": list(halving.seeds),
        "rungs": {name: list(steps) for name, steps in halving.steps.items()},
        "contestants": rung_sizes(halving.n_expected, halving.eta, len(halving.steps[plan.baseline])),
        "trials": [n_trials for n_trials, _ in plan.phases()],
        "steps": steps,
        "steps_without": steps_without,
    }


def selection_as_dict(selection: Selection) -> dict[str, Any]:
    """Convert the rungs so far to JSON: the variants in each, their metrics, and whether they were promoted."""
    return {
        "seeds": list(selection.seeds),
        "finalists": None if selection.finalists is None else list(selection.finalists),
        "rungs": [
            {
                "number": rung.number,
                "keeps": rung.n_promoted,
                "decided": rung.decided,
                "states": dict(_count_states(rung.entries)),
                "entries": [
                    {
                        "variant": entry.variant,
                        "step": entry.step,
                        "mean": entry.mean,
                        "values": _values(entry.trials),
                        "fate": entry.status,
                        "reason": entry.reason,
                    }
                    for entry in rung.entries
                ],
            }
            for rung in selection.rungs
        ],
    }


def _total_steps(plan: Plan) -> tuple[int, int]:
    """Return the steps of all trials together, with halving and without it.

    The variants that will be stopped are unknown in advance, so every variant counts with the mean number of steps.
    """
    assert plan.halving is not None
    mean = sum(variant.n_steps for variant in plan.variants) / len(plan.variants)
    steps_without = round(mean * (plan.halving.n_expected + 1)) * len(plan.spec.seeds)
    return round(sum(n_trials * n_steps for n_trials, n_steps in plan.phases())), steps_without


def _count_states(entries: Sequence[RungEntry]) -> Counter[str]:
    return Counter(trial.state for entry in entries for trial in entry.trials.values())


def _values(trials: Mapping[int, RungTrial]) -> dict[str, float | None]:
    return {str(seed): trial.value for seed, trial in trials.items()}


def _step_range(steps: Sequence[int]) -> str:
    """Format the steps of a rung: "200", or "200 to 240" if runs have different lengths."""
    low, high = min(steps), max(steps)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
