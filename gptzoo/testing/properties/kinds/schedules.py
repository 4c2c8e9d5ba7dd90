"""What a schedule owes: a learning rate that is a function of the step and nothing else."""

from __future__ import annotations

import itertools
import math
from typing import Any

from gptzoo.component import Config
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed, Skipped

N_STEPS = 40


def factors(subject: Subject) -> None:
    """In runs of any length every factor is finite and at least 0, and some factor is above 0."""
    for n_steps in (1, 2, 3, 10, N_STEPS, 1000):
        found = _factors(subject.config, n_steps)
        for step, factor in enumerate(found):
            if not (math.isfinite(factor) and factor >= 0):
                raise Failed(f"in a run of {n_steps} steps the factor of step {step} is {factor}")
        if not any(found):
            raise Failed(f"in a run of {n_steps} steps every factor is 0")


def determinism(subject: Subject) -> None:
    """The factor of a step depends on the step alone, not on which were asked before: resuming needs no state."""
    forwards = _factors(subject.config, N_STEPS)
    schedule = subject.config.build(N_STEPS)
    for step in reversed(range(N_STEPS)):
        if (factor := schedule.factor(step)) != forwards[step]:
            raise Failed(f"the factor of step {step} is {forwards[step]:g} asked in order, and {factor:g} asked first")


def warmup(subject: Subject) -> None:
    """Over `warmup_steps` the factor rises linearly, from above 0 to what follows."""
    if "warmup_steps" not in type(subject.config).model_fields:
        raise Skipped("it has no warmup_steps")
    found = _factors(subject.configure(warmup_steps=10), N_STEPS)
    rises = [after - before for before, after in itertools.pairwise(found[:11])]
    if found[0] <= 0:
        raise Failed(f"the first of 10 warmup steps has the factor {found[0]:g}: that step is lost")
    if min(rises) <= 0 or max(rises) - min(rises) > 1e-6:
        step = rises.index(min(rises))
        raise Failed(
            f"with 10 warmup steps the factor of step {step} is {found[step]:g} and of step {step + 1} "
            f"{found[step + 1]:g}: it does not rise linearly"
        )


def behaviour(config: Config) -> dict[str, Any]:
    """What options could change."""
    return {str(n_steps): _factors(config, n_steps) for n_steps in (N_STEPS, 1000)}


def _factors(config: Config, n_steps: int) -> list[float]:
    schedule = config.build(n_steps)
    return [schedule.factor(step) for step in range(n_steps)]
