"""Properties of schedules: the learning rate is a function of the step and of nothing else."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable

from hypothesis import strategies as st

from gptzoo.component import Config
from gptzoo.testing.at_size.draws import for_all, sizes, smaller_numbers
from gptzoo.testing.at_size.option_draws import describe_options, other_configs
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed, Skipped

_N_STEPS = 40
_RUN_LENGTHS = (1, 2, 3, 10, _N_STEPS, 1000, 20_000)
_LONG_RUN = 100_000
_N_DRAWS = 15
_ROUNDING = 1e-9


def check_factors(subject: ComponentUnderTest) -> None:
    """Check that in runs of any length every factor is between 0 and 1, and some factor is above 0."""
    for config in other_configs(subject):
        for n_steps in _RUN_LENGTHS:
            _require_fractions(config, n_steps, range(n_steps))
        _require_fractions(config, _LONG_RUN, (*range(0, _LONG_RUN, 17), *range(_LONG_RUN - 100, _LONG_RUN)))
    for_all(
        st.integers(1, 3000),
        lambda n_steps: _require_fractions(subject.config, n_steps, range(n_steps)),
        effort=subject.effort,
        n_draws=_N_DRAWS,
    )


def check_determinism(subject: ComponentUnderTest) -> None:
    """Check that the factor of a step depends only on the step and the length of the run, in any order of steps."""
    for config in other_configs(subject):
        for n_steps in (_N_STEPS, 1000, _LONG_RUN):
            steps = list(range(0, n_steps, max(1, n_steps // 500)))
            factors = dict(zip(steps, _factors(config, n_steps, steps), strict=True))
            orders = {"in reverse order": steps[::-1], "in another order": random.Random(0).sample(steps, len(steps))}
            for name, order in orders.items():
                schedule = config.build(n_steps)
                for step in order:
                    if (factor := schedule.lr_factor(step)) != factors[step]:
                        raise Failed(
                            f"in a run of {n_steps} steps the factor of step {step} is {factors[step]:g} when steps "
                            f"are computed in order, and {factor:g} {name}"
                        )


def check_resuming(subject: ComponentUnderTest) -> None:
    """Check that a schedule which is built in the middle of a run goes on with the same factors."""
    n_steps = 1000
    for config in other_configs(subject):
        factors = _factors(config, n_steps)
        for first in (1, 2, 7, 33, 65, 129, 500, n_steps - 1):
            schedule = config.build(n_steps)
            for step in range(first, min(first + 40, n_steps)):
                if (factor := schedule.lr_factor(step)) != factors[step]:
                    raise Failed(
                        f"resumed at step {first} of {n_steps}, the factor of step {step} is {factor:g}; without a "
                        f"stop it is {factors[step]:g}"
                    )


def check_warmup(subject: ComponentUnderTest) -> None:
    """Check that over `warmup_steps` of any number the factor rises linearly from above 0."""
    if "warmup_steps" not in type(subject.config).model_fields:
        raise Skipped("it has no warmup_steps")

    def require_linear(warmup_steps: int) -> None:
        n_steps = max(_N_STEPS, 2 * warmup_steps)
        factors = _factors(subject.configure(warmup_steps=warmup_steps), n_steps, range(warmup_steps + 1))
        rises = [after - before for before, after in itertools.pairwise(factors)]
        if factors[0] <= 0:
            raise Failed(
                f"the first of {warmup_steps} warmup steps has the factor {factors[0]:g}, so it trains nothing"
            )
        if min(rises) <= 0 or max(rises) - min(rises) > 1e-6:
            step = max(range(len(rises)), key=lambda index: abs(rises[index] - rises[0]))
            raise Failed(
                f"with {warmup_steps} warmup steps the factor does not rise linearly: it is {factors[step]:g} at step "
                f"{step} and {factors[step + 1]:g} at step {step + 1}"
            )

    for_all(
        sizes(1, 1200),
        require_linear,
        effort=subject.effort,
        n_draws=_N_DRAWS,
        examples=(10, 1, 101, 1000, 5000),
        simpler=lambda n: smaller_numbers(n, 1),
    )


def behaviour(config: Config) -> dict[str, list[float]]:
    """Return the factors of a short and of a long run."""
    return {str(n_steps): _factors(config, n_steps) for n_steps in (_N_STEPS, 1000)}


def _require_fractions(config: Config, n_steps: int, steps: Iterable[int]) -> None:
    schedule, some_above_0 = config.build(n_steps), False
    for step in steps:
        factor = schedule.lr_factor(step)
        if not (math.isfinite(factor) and 0 <= factor <= 1 + _ROUNDING):
            raise Failed(f"in a run of {n_steps} steps the factor of step {step} is {factor}{describe_options(config)}")
        some_above_0 |= factor > 0
    if not some_above_0:
        raise Failed(f"in a run of {n_steps} steps every factor is 0{describe_options(config)}")


def _factors(config: Config, n_steps: int, steps: Iterable[int] | None = None) -> list[float]:
    schedule = config.build(n_steps)
    return [schedule.lr_factor(step) for step in (range(n_steps) if steps is None else steps)]
