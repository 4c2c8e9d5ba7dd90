"""Correction for multiple comparisons (Holm 1979), and the verdicts on a family of comparisons.

A verdict follows from the confidence interval alone, so the two cannot contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gptzoo.ablation.records.analysis import Estimate, Verdict
from gptzoo.ablation.statistics.contrast import Contrast


@dataclass(frozen=True)
class CorrectedContrast:
    """A contrast after Holm's correction over its family, with its verdict."""

    contrast: Contrast
    p_adjusted: float | None
    level: float  # error probability of the interval
    verdict: Verdict
    limit: float = math.inf  # largest possible size of the difference

    @property
    def estimate(self) -> Estimate:
        """The difference with its interval, which is cut at the limit."""
        estimate = self.contrast.estimate(self.level)
        low, high = (
            None if end is None else max(-self.limit, min(self.limit, end)) for end in (estimate.low, estimate.high)
        )
        return replace(estimate, low=low, high=high)


def apply_holm_correction(
    contrasts: Sequence[Contrast | None], *, alpha: float, margin: float, higher_is_better: bool = False
) -> list[CorrectedContrast | None]:
    """Apply Holm's correction to a family of contrasts and return their verdicts, in order. None stays None.

    A contrast that is None or has no p value counts as a member of the family with p = 1. So a failed trial never makes
    it easier to call another variant different.
    """
    p_values = [None if contrast is None else contrast.p for contrast in contrasts]
    adjusted, levels = holm([1.0 if p is None else p for p in p_values], alpha)
    corrected: list[CorrectedContrast | None] = []
    for contrast, p, p_adjusted, level in zip(contrasts, p_values, adjusted, levels, strict=True):
        if contrast is None:
            corrected.append(None)
            continue
        verdict = verdict_from_interval(*contrast.interval(level), margin=margin, higher_is_better=higher_is_better)
        corrected.append(CorrectedContrast(contrast, None if p is None else p_adjusted, level, verdict))
    return corrected


def verdict_from_interval(
    low: float | None, high: float | None, *, margin: float, higher_is_better: bool = False
) -> Verdict:
    """Return the verdict for the interval of a difference. Negative differences are better, as those of a loss.

    higher_is_better: positive differences are better, as those of an accuracy.
    """
    if low is None or high is None:
        return "cannot tell"
    if -margin <= low and high <= margin:
        return "same"
    if low <= 0 <= high:
        return "cannot tell"
    return "better" if (low > 0) == higher_is_better else "worse"


def holm(p_values: Sequence[float], alpha: float) -> tuple[list[float], list[float]]:
    """Return the p values adjusted by Holm's step-down procedure (Holm 1979), and the level of each step.

    The k-th smallest of m p values is tested at alpha / (m - k + 1). The first one that fails ends the procedure, and
    all larger ones get its level. A confidence interval at this level excludes 0 exactly if the adjusted p value is at
    most alpha.
    """
    m = len(p_values)
    adjusted, levels = [1.0] * m, [alpha] * m
    largest, level = 0.0, alpha / m if m else alpha
    failed = False
    for step, index in enumerate(sorted(range(m), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (m - step) * p_values[index]))
        adjusted[index] = largest
        if not failed:
            level = alpha / (m - step)
            failed = p_values[index] > level
        levels[index] = level
    return adjusted, levels
