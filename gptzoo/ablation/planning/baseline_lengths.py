"""The trials of the baseline at other lengths, from which the cost of reaching a loss follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gptzoo.ablation.planning.plan_types import PlannedLength, PlannedVariant
from gptzoo.ablation.planning.trial_names import TrialNames
from gptzoo.ablation.wording import format_count
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec


def check_lengths(spec: AblationSpec, *, higher_is_better: bool, task_axes: Sequence[str]) -> None:
    """Raise SpecError if the baseline of this ablation has no curve of losses that fall with the length."""
    if not spec.baseline_lengths:
        return
    reason = ""
    if higher_is_better:
        reason = f"needs a metric that is lower for better models, and {spec.metric} is higher. Compare val/loss"
    elif task_axes:
        reason = f"needs one baseline, and {task_axes[0]} has one for each task. Leave out baseline_lengths"
    if reason:
        raise SpecError([Problem(spec.name, "$.baseline_lengths", reason)])


def plan_lengths(spec: AblationSpec, baseline: PlannedVariant, names: TrialNames) -> list[PlannedLength]:
    """Return the baseline at each of the ablation's other lengths, the shortest first.

    Return none until the learning rate of the baseline is tuned. Raises SpecError if two lengths are the same number
    of steps, if one is no step, or if the baseline may stop early.
    """
    n_steps = {multiple: steps_at(multiple, baseline) for multiple in sorted(spec.baseline_lengths) if multiple != 1}
    if reason := _problem(n_steps, baseline):
        raise SpecError([Problem(spec.name, "$.baseline_lengths", reason)])
    if not baseline.is_tuned:
        return []
    runs = {
        multiple: baseline.spec.model_copy(update={"steps": n, "tokens": None, "epochs": None})
        for multiple, n in n_steps.items()
    }
    return [
        PlannedLength(
            multiple,
            n_steps[multiple],
            [
                names.planned_trial(f"{baseline.name}-x{multiple:g}", seed, run.model_copy(update={"seed": seed}))
                for seed in sorted(spec.seeds)
            ],
        )
        for multiple, run in runs.items()
    ]


def _problem(n_steps: Mapping[float, int], baseline: PlannedVariant) -> str | None:
    """Return why the baseline cannot be trained at these lengths. `n_steps` is by multiple of its own length."""
    if n_steps and baseline.spec.early_stopping is not None:
        return "a run that stops by itself has another length than planned. Remove early_stopping from the base"
    multiple_of = {baseline.n_steps: 1.0}
    for multiple, n in n_steps.items():
        if n < 1:
            return f"{multiple:g} times {format_count(baseline.n_steps, 'step')} is no step. Choose greater lengths"
        if n in multiple_of:
            return (
                f"{multiple_of[n]:g} and {multiple:g} times {format_count(baseline.n_steps, 'step')} are the same "
                f"number of steps, {n}. Choose lengths further apart"
            )
        multiple_of[n] = multiple
    return None


def steps_at(multiple: float, baseline: PlannedVariant) -> int:
    """Return the number of steps of a run that has a multiple of the baseline's own length."""
    return round(multiple * baseline.n_steps)
