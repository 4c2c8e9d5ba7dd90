"""Successive halving: many variants are trained a little, the best of them more, and few to the end.

A rung is a step at which trials pause and are ranked by the mean of the metric over the seeds of the selection. Every
trial is one of the whole run, with its schedule, so who goes on goes on with the same run. What the rungs decide is a
function of the values there and of nothing else: not of when a trial ended, nor of who trained it, nor of what was
decided while there were fewer variants.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from gptzoo.ablation.records.selection import Rung, RungEntry, RungStatus, RungTrial, Selection


def steps_of_rungs(n_steps: int, every: int, shares: Sequence[float]) -> list[int]:
    """Where a run of `n_steps` pauses: at the first evaluation at or after each share of it.

    Raises ValueError where evaluations are too rare to tell the rungs apart.
    """
    steps = [min(n_steps, math.ceil(round(share * n_steps / every, 9)) * every) for share in shares]
    end = [n_steps] if shares[-1] < 1 else []
    for number, (one, other) in enumerate(itertools.pairwise([*steps, *end]), 1):
        if one == other:
            where = (
                f"is at the end, step {n_steps}" if number == len(steps) else f"is at step {one}, as the next one is"
            )
            raise ValueError(
                f"rung {number} {where}, for the run is evaluated every {every} steps; give a smaller eval.every, or "
                "fewer rungs"
            )
    return steps


def kept(contestants: int, eta: float) -> int:
    """How many of a rung's contestants go on: one in eta, rounded down, and one at the least."""
    return max(1, math.floor(contestants / eta + 1e-9))


def sizes(contestants: int, eta: float, n_rungs: int) -> list[int]:
    """How many contestants each rung has, and last how many are left for the end; no rung has a single one."""
    found = [contestants]
    while len(found) <= n_rungs and found[-1] > 1:
        found.append(kept(found[-1], eta))
    return found


def select(
    steps: Mapping[str, Sequence[int]],
    baseline: str,
    *,
    eta: float,
    seeds: Sequence[int],
    look: Callable[[str, int, int], RungTrial],
    searching: bool = False,
) -> Selection:
    """What the rungs say; while there are variants to come, the first alone, and nobody goes on from it.

    `steps`: by variant, in the order of the design, where its trials pause; `look` tells of a variant's trial, by its
    seed, on the way to a step. Those with the lowest mean go on, of equal ones the first. One of which a trial failed,
    or had no number, is out.
    """
    n_rungs = len(steps[baseline])
    there = [name for name in steps if name != baseline]
    rungs: list[Rung] = []
    for number in range(1, n_rungs + 1):
        if len(there) < 2 and not searching:  # who is alone has nobody to beat
            break
        entries = [_entry(name, steps[name][number - 1], seeds, look) for name in steps if name in {*there, baseline}]
        rungs.append(_judged(Rung(number, kept(len(there), eta), entries), baseline, final=not searching))
        if not rungs[-1].decided:
            return Selection(baseline, seeds, n_rungs, rungs, None, searching)
        there = rungs[-1].promoted(baseline)
    return Selection(baseline, seeds, n_rungs, rungs, there)


def _entry(variant: str, step: int, seeds: Sequence[int], look: Callable[[str, int, int], RungTrial]) -> RungEntry:
    trials = {seed: look(variant, seed, step) for seed in seeds}
    for seed, seen in trials.items():
        if seen.state == "failed" or (seen.state == "done" and seen.value is None):
            reason = f"seed {seed}: {seen.reason or 'the metric was no number'}"
            return RungEntry(variant, step, trials, None, "failed", reason)
    values = [seen.value for seen in trials.values() if seen.state == "done" and seen.value is not None]
    return RungEntry(variant, step, trials, fmean(values) if len(values) == len(seeds) else None, "open")


def _judged(rung: Rung, baseline: str, *, final: bool) -> Rung:
    """The rung with its entries in their order, and with their statuses if all have come to an end."""
    entries = sorted(rung.entries, key=lambda entry: math.inf if entry.mean is None else entry.mean)  # stable
    ended = all(seen.state in ("done", "failed") for entry in entries for seen in entry.trials.values())
    if not (ended and final):
        return Rung(rung.number, rung.n_promoted, entries)
    places, judged = rung.n_promoted, []
    for entry in entries:
        status: RungStatus = entry.status
        if entry.variant == baseline:
            status = "on"
        elif status != "failed":
            status, places = ("on", places - 1) if places else ("stopped", 0)
        judged.append(RungEntry(entry.variant, entry.step, entry.trials, entry.mean, status, entry.reason))
    return Rung(rung.number, rung.n_promoted, judged)
