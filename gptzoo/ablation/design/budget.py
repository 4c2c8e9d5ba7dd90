"""Equal training budgets for all variants: tokens, FLOPs or seconds."""

from __future__ import annotations

from gptzoo.ablation.design.costs import Costs, tokens_per_step
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation_fairness import BudgetSpec
from gptzoo.spec.run import RunSpec


def with_budget(spec: RunSpec, budget: BudgetSpec, costs: Costs, seconds_per_step: float | None) -> RunSpec:
    """Return the run with as many steps as the budget allows, and at least one.

    A budget of tokens is rounded up to whole steps. Raises SpecError if the cost of a step is not known.
    """
    if budget.tokens is not None:
        steps = -(-budget.tokens // tokens_per_step(spec))
    elif budget.flops is not None:
        if costs.flops_per_token is None:
            reason = f"cannot count the FLOPs of {spec.name}: {costs.unknown}; use a budget of tokens or seconds"
            raise SpecError([Problem(spec.name, "$.budget.flops", reason)])
        steps = round(budget.flops / (costs.flops_per_token * tokens_per_step(spec)))
    else:
        assert budget.seconds is not None  # BudgetSpec has exactly one of the three
        if seconds_per_step is None:
            reason = f"cannot measure the time of a step of {spec.name}: its calibration run failed"
            raise SpecError([Problem(spec.name, "$.budget.seconds", reason)])
        steps = int(budget.seconds / seconds_per_step)
    return spec.model_copy(update={"steps": max(1, steps), "tokens": None, "epochs": None})
