"""Warnings about learning-rate schedules: impossible in a run of this length, or another one in each variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import listed
from gptzoo.training.optim.learning_rate_schedules import Schedule
from gptzoo.training.optim.schedule_shape import schedule_shape, schedule_warnings, unequal_shares

_MIN_SHARE_DIFFERENCE = 0.01  # of a run, beyond the rounding of steps


@dataclass(frozen=True)
class ScheduledRun:
    """The schedule of a variant and the length of its runs."""

    schedule: Schedule.Config
    n_steps: int
    differs_elsewhere: bool = False  # from the baseline, in other fields than its schedule


def impossible_schedules(runs: Mapping[str, ScheduledRun]) -> Iterator[ComparisonWarning]:
    """Yield each warning about a schedule in a run of its length once, with the variants that it concerns."""
    names: dict[str, list[str]] = {}
    for name, run in runs.items():
        for warning in schedule_warnings(run.schedule, run.n_steps):
            names.setdefault(warning, []).append(name)
    for warning, concerned in names.items():
        yield ComparisonWarning("schedule", f"{listed(concerned, len(runs))}: {warning}.", concerned)


def unequal_schedules(runs: Mapping[str, ScheduledRun]) -> Iterator[ComparisonWarning]:
    """Yield a warning for each schedule that has another shape in variants of another length."""
    groups: dict[str, dict[str, ScheduledRun]] = {}
    for name, run in runs.items():
        groups.setdefault(run.schedule.model_dump_json(), {})[name] = run
    for group in groups.values():
        n_steps = {name: run.n_steps for name, run in group.items()}
        schedule = next(iter(group.values())).schedule
        if len(set(n_steps.values())) > 1 and (warning := unequal_shares(schedule, n_steps)):
            yield ComparisonWarning("schedule", f"{_capitalised(warning)}.", list(group))


def confounded_warmups(runs: Mapping[str, ScheduledRun], baseline: str) -> Iterator[ComparisonWarning]:
    """Yield a warning if the warmup of variants that also differ in other fields is another share of their runs."""
    reference = runs[baseline]
    share = schedule_shape(reference.schedule, reference.n_steps).rise_share
    shares = {
        name: schedule_shape(run.schedule, run.n_steps).rise_share
        for name, run in runs.items()
        if run.differs_elsewhere and run.schedule != reference.schedule
    }
    unequal = {name: s for name, s in shares.items() if abs(s - share) > _tolerance(reference, runs[name])}
    if unequal:
        parts = listed([f"{s:.0%} of the run of {name}" for name, s in unequal.items()])
        yield ComparisonWarning(
            "schedule",
            f"Warmup is {share:.0%} of the run of {baseline}, and {parts}. These variants also differ in other fields, "
            "so a difference in the metric may come from the warmup. Give all variants the same "
            "schedule.warmup_fraction.",
            list(unequal),
        )


def rungs_in_warmup(
    runs: Mapping[str, ScheduledRun], steps: Mapping[str, Sequence[int]]
) -> Iterator[ComparisonWarning]:
    """Yield a warning if the first rung of a selection is within the warmup. `steps` are the rungs by variant."""
    inside = {}
    for name, run in runs.items():
        peak_step = schedule_shape(run.schedule, run.n_steps).peak_step
        if steps[name][0] <= peak_step:
            inside[name] = f"rung 1 is at step {steps[name][0]:,}, and the warmup ends at {peak_step:,}"
    if inside:
        yield ComparisonWarning(
            "rungs",
            f"{listed(list(inside), len(runs))}: {next(iter(inside.values()))}. The rung ranks runs whose "
            "learning rate has not reached its peak. Set a later first rung or a shorter warmup.",
            list(inside),
        )


def unequal_lengths(run: ScheduledRun, baseline: str, n_steps: Mapping[str, int]) -> Iterator[ComparisonWarning]:
    """Yield a warning if the baseline's schedule has another shape at other lengths. `n_steps` has these, by name."""
    if n_steps and unequal_shares(run.schedule, {baseline: run.n_steps, **n_steps}):
        steps = sorted({run.n_steps, *n_steps.values()})
        yield ComparisonWarning(
            "schedule",
            f"The learning-rate schedule of {baseline} has another shape at other lengths ({steps[0]:,} to "
            f"{steps[-1]:,} steps), so these runs differ in more than their length, and the costs to reach a loss are "
            "biased. Use schedule.warmup_fraction instead of an absolute number of steps, and a decay that is a "
            "fraction of the run.",
            [baseline],
        )


def _tolerance(a: ScheduledRun, b: ScheduledRun) -> float:
    return _MIN_SHARE_DIFFERENCE + 0.5 / a.n_steps + 0.5 / b.n_steps


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]
