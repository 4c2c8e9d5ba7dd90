"""Variants as large as the baseline, in parameters or in FLOPs, by a width that each has for itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError

from gptzoo.ablation.design.costs import Ledger
from gptzoo.errors import Problem, SpecError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import assemble
from gptzoo.model.dry_run import count_flops
from gptzoo.spec.ablation import MatchSpec
from gptzoo.spec.files import spec_error
from gptzoo.spec.run import RunSpec

_WIDEST = 1 << 20  # where the search gives up: no model is so wide


def matched(spec: RunSpec, target: float, match: MatchSpec, ledger: Ledger) -> tuple[RunSpec, str]:
    """The run with the width that brings it nearest to the target, and in words what is left between the two.

    A run that meets the target as it is stays so. Raises SpecError for a run that has no such width.
    """
    own = amount(spec, match, ledger)
    if own == target:
        return spec, ""
    step = _step(spec, match)

    @cache
    def at(n: int) -> tuple[RunSpec, float]:
        wide = with_width(spec, match.by, n * step)
        return wide, amount(wide, match, ledger)

    n = _nearest(lambda n: at(n)[1], target)
    found, reached = at(n)
    what = {"params": "parameters", "flops": "FLOPs"}[match.what]
    return found, f"{match.by} {n * step}: {(reached - target) / target:+.2%} {what}"


def amount(spec: RunSpec, match: MatchSpec, ledger: Ledger) -> float:
    """What is matched, of the run's model."""
    model = ledger.with_vocabulary(spec)
    if match.what == "params":
        return count_parameters(assemble(model)).total
    try:
        return count_flops(model, model.context_length)[2] / model.context_length
    except RuntimeError as error:  # torch's, from an operation that needs values
        first = str(error).strip().partition("\n")[0]
        raise SpecError([Problem(spec.name, "$.match", f"FLOPs cannot be told: {first}")]) from None


def with_width(spec: RunSpec, by: str, width: int) -> RunSpec:
    """The run with another d_model, or with another d_ff in every feed-forward network."""
    data = spec.resolved()
    if by == "d_model":
        data["model"]["d_model"] = width
    else:
        ffn = data["model"]["ffn"]
        networks = list(ffn) if isinstance(ffn, list) else [ffn]
        data["model"]["ffn"] = [_wide(network, width) for network in networks]
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, {(): spec.name}) from None


def _wide(network: dict[str, Any], width: int) -> dict[str, Any]:
    without = {name: None for name in network if name == "multiplier"}  # which d_ff replaces
    return {**network, **without, "d_ff": width}


def _step(spec: RunSpec, match: MatchSpec) -> int:
    """What the width is a multiple of."""
    return match.multiple_of if match.by == "d_ff" else math.lcm(match.multiple_of, 2 * spec.model.n_heads)


def _nearest(amount_of: Callable[[int], float], target: float) -> int:
    """The n >= 1 whose amount, which grows with n, is nearest to the target."""
    high = next(n for n in _doublings() if amount_of(n) >= target or n >= _WIDEST)
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if amount_of(middle) < target else (low, middle)
    return min((low, high), key=lambda n: abs(amount_of(n) - target))


def _doublings() -> Iterator[int]:
    n = 1
    while True:
        yield n
        n *= 2
