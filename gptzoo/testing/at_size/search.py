"""The search for a case in which a component lacks a property, and for the smallest such case."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, assume, given, settings

from gptzoo.errors import InputError
from gptzoo.testing.at_size.case import Case, simpler_cases
from gptzoo.testing.at_size.effort import Effort
from gptzoo.testing.at_size.plan import Sizes, planned_cases, random_cases, repair
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.exceptions import describe_exception
from gptzoo.testing.verdict import Failed, Skipped

MAX_SIMPLER_CASES = 300  # tried to find the smallest case that fails


@dataclass(frozen=True)
class AtSize:
    """The part of a property that is checked beyond toy sizes."""

    check: Callable[[Trial], None]  # raises Failed
    sizes: Sizes = field(default_factory=Sizes)


class _FailingCase(Exception):
    def __init__(self, case: Case):
        super().__init__()
        self.case = case


def search(subject: ModelPartUnderTest, name: str, at_size: AtSize, effort: Effort) -> None:
    """Check a property in planned cases, then in random ones. Raises Failed with the smallest failing case found."""
    try:
        _run(subject, name, at_size, effort)
    except _FailingCase as failing:
        case = _simplify(subject, at_size, failing.case)
        raise Failed(f"{case.describe()}{_finding(subject, at_size, case)}") from None
    except Skipped:
        return  # it does not apply at any size, as in a model that cannot be fed in chunks


def _run(subject: ModelPartUnderTest, name: str, at_size: AtSize, effort: Effort) -> None:
    tried: list[Case] = []
    for case in planned_cases(subject, name, at_size.sizes, effort):
        if case not in tried and _finding(subject, at_size, case) is not None:
            raise _FailingCase(case)
        tried.append(case)
    n_random = math.ceil(at_size.sizes.share * effort.n_random)
    if not n_random:
        return

    @settings(
        max_examples=n_random,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(random_cases(subject, at_size.sizes, effort))
    def try_case(case: Case) -> None:
        valid = repair(subject, case, at_size.sizes, effort)
        assume(valid is not None)
        if valid is not None and _finding(subject, at_size, valid) is not None:
            raise _FailingCase(valid)

    try_case()


def _finding(subject: ModelPartUnderTest, at_size: AtSize, case: Case) -> str | None:
    """Return what is wrong in a case, or None. A model that is refused is right."""
    trial = Trial(subject, case)
    try:
        trial.validate()
        if trial.exceeds_max_length():
            return None
    except InputError:
        return None
    try:
        at_size.check(trial)
    except Failed as failure:
        return str(failure)
    except Skipped:
        raise
    except Exception as error:
        return f"{case.batch_size} rows of {case.length} tokens raise {describe_exception(error)}"
    return None


def _simplify(subject: ModelPartUnderTest, at_size: AtSize, case: Case) -> Case:
    """Return the smallest case that still fails, by steps to simpler ones."""
    sizes, budget, improved = at_size.sizes, MAX_SIMPLER_CASES, True
    while improved:
        improved = False
        for simpler in simpler_cases(case):
            if not _is_allowed(simpler, sizes):
                continue
            budget -= 1
            if budget < 0:
                return case
            if _finding(subject, at_size, simpler) is not None:
                case, improved = simpler, True
                break
    return case


def _is_allowed(case: Case, sizes: Sizes) -> bool:
    return (
        len(case.parts) >= sizes.min_parts
        and min(case.parts) >= sizes.least
        and case.batch_size >= sizes.min_batch_size
    )
