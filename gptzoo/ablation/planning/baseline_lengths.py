"""The trials of the baseline at other lengths, from which the cost of reaching a loss follows."""

from __future__ import annotations

from gptzoo.ablation.planning.plan_types import PlannedLength, PlannedVariant
from gptzoo.ablation.planning.trial_names import TrialNames
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec


def plan_lengths(spec: AblationSpec, baseline: PlannedVariant, names: TrialNames) -> list[PlannedLength]:
    """Return the baseline at each of the ablation's other lengths, the shortest first.

    Return none until the learning rate of the baseline is tuned. Raises SpecError if two lengths are the same number
    of steps, or if the baseline may stop early.
    """
    multiples = [multiple for multiple in sorted(spec.baseline_lengths) if multiple != 1]
    if not multiples or not baseline.is_tuned:
        return []
    if baseline.spec.early_stopping is not None:
        reason = "a run that stops by itself has another length than planned. Remove early_stopping from the base"
        raise SpecError([Problem(spec.name, "$.baseline_lengths", reason)])
    multiple_of = {baseline.n_steps: 1.0}
    lengths = []
    for multiple in multiples:
        n_steps = steps_at(multiple, baseline)
        if n_steps in multiple_of:
            reason = (
                f"{multiple_of[n_steps]:g} and {multiple:g} times {baseline.n_steps} steps are the same number of "
                f"steps, {n_steps}. Choose lengths further apart"
            )
            raise SpecError([Problem(spec.name, "$.baseline_lengths", reason)])
        multiple_of[n_steps] = multiple
        run = baseline.spec.model_copy(update={"steps": n_steps, "tokens": None, "epochs": None})
        trials = [
            names.planned_trial(f"{baseline.name}-x{multiple:g}", seed, run.model_copy(update={"seed": seed}))
            for seed in sorted(spec.seeds)
        ]
        lengths.append(PlannedLength(multiple, n_steps, trials))
    return lengths


def steps_at(multiple: float, baseline: PlannedVariant) -> int:
    """Return the number of steps of a run that has a multiple of the baseline's own length."""
    return max(1, round(multiple * baseline.n_steps))
