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
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from gptzoo.ablation.execution.trial import State

Fate = Literal["open", "on", "stopped", "failed"]


@dataclass(frozen=True)
class Seen:
    """How a trial is doing on its way to a step: done when it has got there. No value is one that was no number."""

    state: State
    value: float | None = None
    reason: str = ""  # why it failed


@dataclass(frozen=True)
class Entry:
    """A variant in a rung."""

    variant: str
    step: int
    trials: Mapping[int, Seen]  # by seed
    mean: float | None  # of the metric over the seeds; None until all are there, and where one has failed
    fate: Fate
    reason: str = ""  # why it failed


@dataclass(frozen=True)
class Rung:
    """One round of the selection."""

    number: int  # from 1
    keeps: int  # how many go on, the baseline not counted
    entries: Sequence[Entry]  # best first; those without a mean last, in the order of the design

    @property
    def contestants(self) -> int:
        """How many try for the places that are kept."""
        return len(self.entries) - 1

    @property
    def decided(self) -> bool:
        return all(entry.fate != "open" for entry in self.entries)

    def going_on(self, baseline: str) -> list[str]:
        """Who goes on beside the baseline, best first."""
        return [entry.variant for entry in self.entries if entry.fate == "on" and entry.variant != baseline]


@dataclass(frozen=True)
class Selection:
    """What the rungs have said so far."""

    baseline: str  # which goes on in any case, and takes no place
    seeds: Sequence[int]
    n_rungs: int
    rungs: Sequence[Rung]  # those that are decided, and the one that is going on
    finalists: Sequence[str] | None  # best first, without the baseline; None before that is decided
    searching: bool = False  # more variants are going to be suggested

    @property
    def order(self) -> list[str]:
        """All variants that have been in a rung, by how far they got, and the best of those first."""
        far = [entry.variant for rung in reversed(self.rungs) for entry in rung.entries]
        return list(dict.fromkeys([*(self.finalists or ()), *far]))

    def told(self, variant: str, metric: str) -> str:
        """What became of a variant, or where it is; "" of the baseline and of those that are trained to the end."""
        if variant == self.baseline or variant in (self.finalists or ()):
            return ""
        rung, entry = self._last_seen(variant)
        place = f"rung {rung.number}, step {entry.step:,}"
        if entry.fate == "open":
            return f"in {place}"
        if entry.fate == "failed":
            return f"failed before {place}"
        ranked = [one.variant for one in rung.entries if one.mean is not None and one.variant != self.baseline]
        n_on = len(rung.going_on(self.baseline))
        rank = f"{ranked.index(variant) + 1} of {rung.contestants}, {n_on} went on"
        return f"stopped at {place}: {metric} {entry.mean:.4f}, {rank}"

    def fate(self, variant: str) -> Fate:
        """What the last rung that a variant was in has made of it."""
        if variant == self.baseline or variant in (self.finalists or ()):
            return "on"
        return self._last_seen(variant)[1].fate

    def reason(self, variant: str) -> str:
        """Why it failed."""
        return self._last_seen(variant)[1].reason

    def failures(self) -> list[str]:
        """Each variant that is out because a trial failed, with the reason."""
        return [
            f"{entry.variant} before rung {rung.number}, step {entry.step:,}: {entry.reason}"
            for rung in self.rungs
            for entry in rung.entries
            if entry.fate == "failed"
        ]

    def _last_seen(self, variant: str) -> tuple[Rung, Entry]:
        return next((rung, one) for rung in reversed(self.rungs) for one in rung.entries if one.variant == variant)


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
    look: Callable[[str, int, int], Seen],
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
        there = rungs[-1].going_on(baseline)
    return Selection(baseline, seeds, n_rungs, rungs, there)


def _entry(variant: str, step: int, seeds: Sequence[int], look: Callable[[str, int, int], Seen]) -> Entry:
    trials = {seed: look(variant, seed, step) for seed in seeds}
    for seed, seen in trials.items():
        if seen.state == "failed" or (seen.state == "done" and seen.value is None):
            reason = f"seed {seed}: {seen.reason or 'the metric was no number'}"
            return Entry(variant, step, trials, None, "failed", reason)
    values = [seen.value for seen in trials.values() if seen.state == "done" and seen.value is not None]
    return Entry(variant, step, trials, fmean(values) if len(values) == len(seeds) else None, "open")


def _judged(rung: Rung, baseline: str, *, final: bool) -> Rung:
    """The rung with its entries in their order, and with their fates if all have come to an end."""
    entries = sorted(rung.entries, key=lambda entry: math.inf if entry.mean is None else entry.mean)  # stable
    ended = all(seen.state in ("done", "failed") for entry in entries for seen in entry.trials.values())
    if not (ended and final):
        return Rung(rung.number, rung.keeps, entries)
    places, judged = rung.keeps, []
    for entry in entries:
        fate: Fate = entry.fate
        if entry.variant == baseline:
            fate = "on"
        elif fate != "failed":
            fate, places = ("on", places - 1) if places else ("stopped", 0)
        judged.append(Entry(entry.variant, entry.step, entry.trials, entry.mean, fate, entry.reason))
    return Rung(rung.number, rung.keeps, judged)
