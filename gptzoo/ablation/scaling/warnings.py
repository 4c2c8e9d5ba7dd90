"""Reasons to doubt the multipliers of a ladder: those of its rule, and those of the ablation that trains it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.scaling.analyse import MIN_SIZES_TO_EXTRAPOLATE
from gptzoo.ablation.scaling.ladder_spec import LadderSpec
from gptzoo.ablation.scaling.plan_ladder import LadderPlan
from gptzoo.ablation.scaling.power_law import MIN_SIZES
from gptzoo.ablation.scaling.result import LadderRun
from gptzoo.ablation.warnings.results import result_warnings, variant_warnings
from gptzoo.ablation.wording import listed

_INTENDED = ("parameters", "flops", "tokens")  # differences that a ladder has by design


def ladder_warnings(runs: Sequence[LadderRun], *, is_tuned: bool, outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield the warnings of a ladder with results, finished or not."""
    yield from _of_ladder(result_warnings(outcome))
    yield from _rule_warnings(runs, is_tuned=is_tuned)


def planned_warnings(ladder: LadderPlan, plan: Plan) -> Iterator[ComparisonWarning]:
    """Yield the warnings that are known before anything runs."""
    variants = [variant.as_variant() for variant in plan.variants]
    of_variants = variant_warnings(variants, plan.baseline, metric=plan.spec.metric, budget=None)
    yield from _of_ladder([*plan.warnings, *of_variants])
    yield from _rule_warnings(ladder.runs, is_tuned=ladder.spec.tune is not None)


def _of_ladder(warnings: Iterable[ComparisonWarning]) -> Iterator[ComparisonWarning]:
    """Yield the warnings of an ablation that hold for a ladder, without advice on fields that it does not have."""
    for warning in warnings:
        if warning.kind == "seeds added":
            text = (
                "Seeds were added after results had been seen. If they were added because of the results, the "
                "intervals contain the truth less often than they say."
            )
            yield replace(warning, text=text)
        elif warning.kind not in _INTENDED:
            yield warning


def too_few_sizes(spec: LadderSpec) -> Iterator[str]:
    """Yield a note if the fitted sizes determine no laws, or support no extrapolation."""
    n_sizes = len(spec.sizes) - spec.n_held_out
    if n_sizes < MIN_SIZES:
        yield f"laws need {MIN_SIZES} fitted sizes, and there are {n_sizes}: the ladder trains them without a result"
    elif n_sizes < MIN_SIZES_TO_EXTRAPOLATE:
        yield f"an extrapolation needs {MIN_SIZES_TO_EXTRAPOLATE} fitted sizes, and there are {n_sizes}"


def _rule_warnings(runs: Sequence[LadderRun], *, is_tuned: bool) -> Iterator[ComparisonWarning]:
    repeating = {run.label: run.repeats for run in runs if run.repeats is not None and run.repeats > 1}
    if repeating:
        who = "All runs" if len(repeating) == len(runs) else listed(list(repeating))
        yield ComparisonWarning(
            "text",
            f"{who} read their training text more than once, up to {max(repeating.values()):.3g} times, so the loss "
            "also depends on the amount of text. Use a larger corpus.",
            list(repeating),
        )
    if not is_tuned:
        yield ComparisonWarning(
            "learning rate",
            "The learning rates follow the rule and are not tuned for each variant and size, so a multiplier may come "
            'from a learning rate that suits one variant better. Set "tune".',
        )
