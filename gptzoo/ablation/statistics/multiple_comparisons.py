"""What may be said of many differences at once: Holm's correction, the intervals that go with it, and the verdict.

A verdict is read off the interval and off nothing else, so the two cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.analysis import Estimate, Verdict
from gptzoo.ablation.statistics.contrast import Contrast


@dataclass(frozen=True)
class Judged:
    """A contrast with what the family that it belongs to leaves of it."""

    contrast: Contrast
    p_adjusted: float | None
    level: float  # how often its interval misses the truth
    verdict: Verdict

    @property
    def estimate(self) -> Estimate:
        return self.contrast.estimate(self.level)


def judge(contrasts: Sequence[Contrast | None], *, alpha: float, margin: float) -> list[Judged | None]:
    """Verdicts of a family of comparisons, in their order; None for those without data.

    Those that cannot be tested (yet) count in the family: nothing becomes easier to claim because a trial failed.
    """
    ps = [None if one is None else one.p for one in contrasts]
    adjusted, levels = holm([1.0 if p is None else p for p in ps], alpha)
    judged: list[Judged | None] = []
    for one, p, corrected, level in zip(contrasts, ps, adjusted, levels, strict=True):
        if one is None:
            judged.append(None)
            continue
        verdict = read_off(*one.interval(level), margin=margin)
        judged.append(Judged(one, None if p is None else corrected, level, verdict))
    return judged


def read_off(low: float | None, high: float | None, *, margin: float) -> Verdict:
    """The verdict that an interval of a difference allows; below 0 is better."""
    if low is None or high is None:
        return "cannot tell"
    if -margin <= low and high <= margin:
        return "same"
    if high < 0:
        return "better"
    return "worse" if low > 0 else "cannot tell"


def holm(ps: Sequence[float], alpha: float) -> tuple[list[float], list[float]]:
    """Adjusted p values, and for each the level of the step at which it is decided (Holm 1979).

    The k-th smallest of m is held to alpha / (m - k + 1); from the first that fails on, all are held to the level of
    that one. So an interval of this level excludes 0 exactly if the adjusted p value is at most alpha.
    """
    m = len(ps)
    adjusted, levels = [1.0] * m, [alpha] * m
    largest, level = 0.0, alpha / m if m else alpha
    failed = False
    for step, index in enumerate(sorted(range(m), key=lambda index: ps[index])):
        largest = max(largest, min(1.0, (m - step) * ps[index]))
        adjusted[index] = largest
        if not failed:
            level = alpha / (m - step)
            failed = ps[index] > level
        levels[index] = level
    return adjusted, levels
