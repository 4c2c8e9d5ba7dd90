"""Successive halving: train all variants for a few steps, the best of them for longer, and a few to the end.

A rung is a step at which trials pause and are ranked by the mean of the metric over the seeds of the selection. Every
trial is a pause of the complete run with its schedule, so a promoted variant continues the same run.

The decisions of a rung depend only on the metric values at its step. They do not depend on the time at which a trial
ended, on the machine that trained it, or on earlier decisions with fewer variants.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from gptzoo.ablation.records.selection import Rung, RungEntry, RungStatus, RungTrial, Selection

ReadTrial = Callable[[str, int, int], RungTrial]
"""Read the progress of a trial towards a rung, by variant, seed and step."""


def rung_steps(n_steps: int, every: int, shares: Sequence[float]) -> list[int]:
    """Return the steps at which a run of `n_steps` pauses: the first evaluation at or after each share of the run.

    The run is evaluated every `every` steps. Raises ValueError if two rungs would be at the same step.
    """
    steps = [min(n_steps, math.ceil(round(share * n_steps / every, 9)) * every) for share in shares]
    end = [n_steps] if shares[-1] < 1 else []
    for number, (step, following) in enumerate(itertools.pairwise([*steps, *end]), 1):
        if step == following:
            is_last = number == len(steps)
            position = f"the end of the run, step {n_steps}" if is_last else f"step {step}, like the next rung"
            raise ValueError(
                f"rung {number} is at {position}, because the run is evaluated every {every} steps; use a smaller "
                "eval.every, or fewer rungs"
            )
    return steps


def n_promoted(n_candidates: int, eta: float) -> int:
    """Return how many candidates of a rung are promoted: one in `eta`, rounded down, but at least one."""
    return max(1, math.floor(n_candidates / eta + 1e-9))


def rung_sizes(n_candidates: int, eta: float, n_rungs: int) -> list[int]:
    """Return the number of candidates in each rung, and last the number of finalists.

    There is no rung with a single candidate: it has no competitor.
    """
    sizes = [n_candidates]
    while len(sizes) <= n_rungs and sizes[-1] > 1:
        sizes.append(n_promoted(sizes[-1], eta))
    return sizes


def select(
    steps: Mapping[str, Sequence[int]],
    baseline: str,
    *,
    eta: float,
    seeds: Sequence[int],
    read_trial: ReadTrial,
    searching: bool = False,
    higher_is_better: bool = False,
) -> Selection:
    """Rank the variants in each rung and decide which are promoted, as far as their trials have got.

    `steps` are the steps at which the trials of each variant pause; its order is that of the design. Variants with the
    best means, which are the lowest unless `higher_is_better`, are promoted; of equal ones, the first in the design. A
    variant fails if one of its trials fails or has no finite metric. While `searching`, more variants will come, so
    only the first rung exists and promotes nobody.
    """
    n_rungs = len(steps[baseline])
    candidates = [name for name in steps if name != baseline]
    rungs: list[Rung] = []
    for number in range(1, n_rungs + 1):
        if len(candidates) < 2 and not searching:
            break
        names = {*candidates, baseline}
        entries = [_entry(name, steps[name][number - 1], seeds, read_trial) for name in steps if name in names]
        entries.sort(key=lambda entry: _rank_value(entry, higher_is_better))  # stable
        rungs.append(_decided(Rung(number, n_promoted(len(candidates), eta), entries), baseline, decide=not searching))
        if not rungs[-1].decided:
            return Selection(baseline, seeds, n_rungs, rungs, None, searching)
        candidates = rungs[-1].promoted(baseline)
    return Selection(baseline, seeds, n_rungs, rungs, candidates)


def _entry(variant: str, step: int, seeds: Sequence[int], read_trial: ReadTrial) -> RungEntry:
    trials = {seed: read_trial(variant, seed, step) for seed in seeds}
    for seed, trial in trials.items():
        if trial.state == "failed" or (trial.state == "done" and trial.value is None):
            reason = f"seed {seed}: {trial.reason or 'the metric is missing or NaN'}"
            return RungEntry(variant, step, trials, None, "failed", reason)
    values = [trial.value for trial in trials.values() if trial.state == "done" and trial.value is not None]
    return RungEntry(variant, step, trials, fmean(values) if len(values) == len(seeds) else None, "open")


def _rank_value(entry: RungEntry, higher_is_better: bool) -> float:
    """Return a number that is lower for better entries, and infinite without a mean."""
    if entry.mean is None:
        return math.inf
    return -entry.mean if higher_is_better else entry.mean


def _decided(rung: Rung, baseline: str, *, decide: bool) -> Rung:
    """Set the status of the entries of a rung, best first, if `decide` and all trials have ended."""
    have_ended = all(trial.state in ("done", "failed") for entry in rung.entries for trial in entry.trials.values())
    if not (have_ended and decide):
        return rung
    n_left, decided = rung.n_promoted, []
    for entry in rung.entries:
        status: RungStatus = entry.status
        if entry.variant == baseline:
            status = "on"
        elif status != "failed":
            status, n_left = ("on", n_left - 1) if n_left else ("stopped", 0)
        decided.append(RungEntry(entry.variant, entry.step, entry.trials, entry.mean, status, entry.reason))
    return Rung(rung.number, rung.n_promoted, decided)
