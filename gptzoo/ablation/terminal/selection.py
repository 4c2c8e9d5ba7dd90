"""The rungs of a selection as a person, or a script, reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console

from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.selection.halving import sizes
from gptzoo.ablation.statistics.sentences import count
from gptzoo.ablation.terminal.tables import plain_table


def print_rungs(selection: Selection, console: Console) -> None:
    """A row for each rung that there is: where it is, how far its trials are, and how many went on."""
    table = plain_table(">rung", ">step", ">variants", ">trials", ">go on", "best")
    for rung in selection.rungs:
        states = [seen.state for entry in rung.entries for seen in entry.trials.values()]
        n_ended = sum(state in ("done", "failed") for state in states)
        best = next((entry for entry in rung.entries if entry.mean is not None), None)
        table.add_row(
            f"{rung.number}/{selection.n_rungs}",
            span([entry.step for entry in rung.entries]),
            str(len(rung.entries)),
            f"{n_ended}/{len(states)}",
            str(len(rung.promoted(selection.baseline)) + 1) if rung.decided else "-",
            f"{best.variant} {best.mean:.4f}" if best else "-",
        )
    console.print(table)
    console.print()


def planned_rungs(plan: Plan) -> Iterator[str]:
    """What a selection is going to do, in lines: each rung, the end, and how many steps that is of those of all."""
    spec, contest = plan.spec, plan.contest
    assert spec.halving is not None
    assert contest is not None
    n_seeds, n_rungs = len(contest.seeds), len(spec.halving.shares)
    seeds = f"seed {contest.seeds[0]}" if n_seeds == 1 else "seeds " + ", ".join(map(str, contest.seeds))
    expected = sizes(contest.n_expected, contest.eta, n_rungs)
    for number, n in enumerate(expected[:-1]):
        where = span([steps[number] for steps in contest.steps.values()])
        trials = count((n + 1) * n_seeds, "trial")
        yield f"rung {number + 1}, step {where}: {count(n, 'variant')} and the baseline on {seeds}: {trials}"
    last = count((expected[-1] + 1) * len(spec.seeds), "trial")
    left, of_their_own = count(expected[-1], "variant"), f"{count(len(spec.seeds), 'seed')} of their own"
    yield f"the end: {left} and the baseline on {of_their_own}: {last}"
    steps, whole = _steps(plan)
    saved = 1 - steps / whole
    yield f"about {steps:,} steps in all; every variant to the end on every seed is {whole:,}: {saved:.0%} saved"


def _steps(plan: Plan) -> tuple[int, int]:
    """Of all trials together: with the selection, if those that it stops are as long as variants are on average, and
    without it."""
    assert plan.contest is not None
    mean = sum(variant.n_steps for variant in plan.variants) / len(plan.variants)
    whole = round(mean * (plan.contest.n_expected + 1)) * len(plan.spec.seeds)
    return round(sum(n * steps for n, steps in plan.phases())), whole


def halving_as_dict(plan: Plan) -> dict[str, Any]:
    """What a selection is going to do, as data."""
    contest = plan.contest
    assert contest is not None
    steps, whole = _steps(plan)
    return {
        "seeds": list(contest.seeds),
        "rungs": {name: list(steps) for name, steps in contest.steps.items()},
        "contestants": sizes(contest.n_expected, contest.eta, len(contest.steps[plan.baseline])),
        "trials": [n for n, _ in plan.phases()],
        "steps": steps,
        "steps_without": whole,
    }


def selection_as_dict(selection: Selection) -> dict[str, Any]:
    """The rungs as data: who was in each, what its trials had there, and what became of it."""
    return {
        "seeds": list(selection.seeds),
        "finalists": None if selection.finalists is None else list(selection.finalists),
        "rungs": [
            {
                "number": rung.number,
                "keeps": rung.n_promoted,
                "decided": rung.decided,
                "states": dict(Counter(seen.state for entry in rung.entries for seen in entry.trials.values())),
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


def _values(trials: Mapping[int, Any]) -> dict[str, float | None]:
    return {str(seed): seen.value for seed, seen in trials.items()}


def span(steps: Sequence[int]) -> str:
    """200, or 200 to 240 where runs are of unlike length."""
    low, high = min(steps), max(steps)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
