"""Properties of schedules: the learning rate is a function of the step and of nothing else."""

from __future__ import annotations

import itertools
import math

from gptzoo.component import Config
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed, Skipped

_N_STEPS = 40


def check_factors(subject: ComponentUnderTest) -> None:
    """Check that in runs of any length every factor is finite and at least 0, and some factor is above 0."""
    for n_steps in (1, 2, 3, 10, _N_STEPS, 1000):
        factors = _factors(subject.config, n_steps)
        for step, factor in enumerate(factors):
            if not (math.isfinite(factor) and factor >= 0):
                raise Failed(f"in a run of {n_steps} steps the factor of step {step} is {factor}")
        if not any(factors):
            raise Failed(f"in a run of {n_steps} steps every factor is 0")


def check_determinism(subject: ComponentUnderTest) -> None:
    """Check that the factor of a step depends only on the step, so resuming needs no state."""
    factors = _factors(subject.config, _N_STEPS)
    schedule = subject.config.build(_N_STEPS)
    for step in reversed(range(_N_STEPS)):
        if (factor := schedule.lr_factor(step)) != factors[step]:
            raise Failed(
                f"the factor of step {step} is {factors[step]:g} when steps are computed in order, and {factor:g} in "
                "reverse order"
            )


def check_warmup(subject: ComponentUnderTest) -> None:
    """Check that over `warmup_steps` the factor rises linearly from above 0."""
    if "warmup_steps" not in type(subject.config).model_fields:
        raise Skipped("it has no warmup_steps")
    factors = _factors(subject.configure(warmup_steps=10), _N_STEPS)
    rises = [after - before for before, after in itertools.pairwise(factors[:11])]
    if factors[0] <= 0:
        raise Failed(f"the first of 10 warmup steps has the factor {factors[0]:g}, so it trains nothing")
    if min(rises) <= 0 or max(rises) - min(rises) > 1e-6:
        step = rises.index(min(rises))
        raise Failed(
            f"with 10 warmup steps the factor does not rise linearly: it is {factors[step]:g} at step {step} and "
            f"{factors[step + 1]:g} at step {step + 1}"
        )


def behaviour(config: Config) -> dict[str, list[float]]:
    """Return the factors of a short and of a long run."""
    return {str(n_steps): _factors(config, n_steps) for n_steps in (_N_STEPS, 1000)}


def _factors(config: Config, n_steps: int) -> list[float]:
    schedule = config.build(n_steps)
    return [schedule.lr_factor(step) for step in range(n_steps)]
