"""An equal budget for every variant: tokens, FLOPs, or time of training by a calibration."""

from __future__ import annotations

from gptzoo.ablation.design.costs import Costs, tokens_per_step
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import BudgetSpec
from gptzoo.spec.run import RunSpec


def with_budget(spec: RunSpec, budget: BudgetSpec, costs: Costs, seconds_per_step: float | None) -> RunSpec:
    """The run with as many steps as the budget allows, and at least one; of tokens as many as reach it.

    Raises SpecError where the cost of a step is not known.
    """
    if budget.tokens is not None:
        steps = -(-budget.tokens // tokens_per_step(spec))
    elif budget.flops is not None:
        if costs.flops_per_token is None:
            reason = f"FLOPs of {spec.name} cannot be told: {costs.unknown}; give tokens or seconds"
            raise SpecError([Problem(spec.name, "$.budget.flops", reason)])
        steps = round(budget.flops / (costs.flops_per_token * tokens_per_step(spec)))
    else:
        assert budget.seconds is not None  # the spec says one of the three
        if seconds_per_step is None:
            raise SpecError([Problem(spec.name, "$.budget.seconds", f"no step of {spec.name} came to an end")])
        steps = int(budget.seconds / seconds_per_step)
    return spec.model_copy(update={"steps": max(1, steps), "tokens": None, "epochs": None})
