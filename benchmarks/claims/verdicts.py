"""Verdicts on statements and claims: confidence intervals against margins, with Holm's correction over all statements.

The family is all statements of the catalog, run or not. A statement without a result has p = 1. So further results
never take a verdict back, and no statement can be left out to make the others look better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.claims.catalog import Entry, Statement, digest, n_seeds, statements_by_ablation
from gptzoo.ablation.statistics.contrast import Contrast, estimate_contrast
from gptzoo.ablation.statistics.multiple_comparisons import holm

ALPHA = 0.05

Verdict = Literal["agrees", "disagrees", "cannot tell", "not run yet", "not testable", "no empirical claim"]
VERDICTS: tuple[Verdict, ...] = (
    "agrees",
    "disagrees",
    "cannot tell",
    "not run yet",
    "not testable",
    "no empirical claim",
)


@dataclass(frozen=True)
class Judgement:
    """A statement with its estimate, its simultaneous interval and its verdict."""

    statement: Statement
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0  # seeds that the estimate is made of
    missing: int = 0  # seeds that have no value for a side of it


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the results by the name of the ablation."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}


def changed_since_run(entries: Sequence[Entry], results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of results whose ablation or statements are not those that the catalog has today."""
    by_ablation = statements_by_ablation(entries)
    return [
        name
        for name, result in results.items()
        if name not in by_ablation or digest(name, by_ablation[name]) != result["registered"]
    ]


def judge(entries: Sequence[Entry], results: Mapping[str, Mapping[str, Any]]) -> dict[Statement, Judgement]:
    """Judge all statements of the catalog."""
    statements = [statement for entry in entries for statement in entry.statements]
    contrasts = [contrast_of(statement, results.get(statement.ablation)) for statement in statements]
    p_values = [
        1.0 if contrast is None else p_value(contrast, statement)
        for statement, contrast in zip(statements, contrasts, strict=True)
    ]
    _, levels = holm(p_values, ALPHA)
    return {
        statement: _judge(statement, contrast, level, statement.ablation in results)
        for statement, contrast, level in zip(statements, contrasts, levels, strict=True)
    }


def contrast_of(statement: Statement, result: Mapping[str, Any] | None) -> Contrast | None:
    """Estimate left - right, paired by seed. None without a result, or without a value on one side."""
    if result is None:
        return None
    sides = [result["measures"].get(q.measure, {}).get(q.variant, {}) for q in statement.quantities]
    return estimate_contrast(list(zip((1.0, -1.0), sides, strict=False)), paired=True)


def p_value(contrast: Contrast, statement: Statement) -> float:
    """Return the two-sided p value of a difference at the margin.

    It is at most a level exactly if the interval at that level gives a verdict.
    """
    if contrast.error is None:
        return 1.0
    if statement.expected != "within":
        return _p_at(contrast, statement.margin)
    low, high = _p_at(contrast, -statement.margin), _p_at(contrast, statement.margin)
    return max(low, high) if abs(contrast.value) <= statement.margin else min(low, high)


def _p_at(contrast: Contrast, bound: float) -> float:
    p = replace(contrast, value=contrast.value - bound).p
    assert p is not None
    return p


def _judge(statement: Statement, contrast: Contrast | None, level: float, has_run: bool) -> Judgement:
    if not has_run:
        return Judgement(statement, "not run yet")
    n_expected = n_seeds(statement.ablation)
    if contrast is None:
        return Judgement(statement, "cannot tell", missing=n_expected)
    low, high = contrast.interval(level)
    missing = n_expected - contrast.n
    # Trials that failed are not a random choice, so an estimate without them does not decide.
    verdict = "cannot tell" if missing else verdict_of(low, high, statement)
    return Judgement(statement, verdict, contrast.value, low, high, contrast.n, missing)


def verdict_of(low: float | None, high: float | None, statement: Statement) -> Verdict:
    """Return the verdict for an interval: it must lie completely on one side of the margin."""
    if low is None or high is None:
        return "cannot tell"
    margin = statement.margin
    if statement.expected == "within":
        inside, outside = -margin <= low and high <= margin, high < -margin or low > margin
    elif statement.expected == "below":
        inside, outside = high < margin, low > margin
    else:
        inside, outside = low > margin, high < margin
    return "agrees" if inside else "disagrees" if outside else "cannot tell"


def verdict_on(entry: Entry, judgements: Mapping[Statement, Judgement]) -> Verdict:
    """Return the verdict on a claim. It agrees if all of its statements do, and disagrees if any of them does."""
    if entry.no_claim:
        return "no empirical claim"
    if entry.not_testable:
        return "not testable"
    found = {judgements[statement].verdict for statement in entry.statements}
    for verdict in ("disagrees", "not run yet", "cannot tell"):
        if verdict in found:
            return verdict
    return "agrees"
