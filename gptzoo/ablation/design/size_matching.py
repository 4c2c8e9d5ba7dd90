"""Size matching: a width of each variant is adjusted until its parameters or FLOPs match the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError

from gptzoo.ablation.design.costs import CostCache
from gptzoo.errors import Problem, SpecError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import build_on_meta
from gptzoo.model.dry_run import count_flops
from gptzoo.spec.ablation_fairness import MatchSpec
from gptzoo.spec.files import spec_error
from gptzoo.spec.formats.origin import Origin
from gptzoo.spec.run import RunSpec

MAX_WIDTH_STEPS = 1 << 20  # end of the search, in multiples of `multiple_of`


def match_size(spec: RunSpec, target: float, match: MatchSpec, costs: CostCache) -> tuple[RunSpec, str]:
    """Return the run with the width whose size is nearest to `target`, and a description of the remaining difference.

    A run that has the target size is returned unchanged. Raises SpecError if there is no valid width.
    """
    if model_size(spec, match, costs) == target:
        return spec, ""
    step = _width_step(spec, match)

    @cache
    def run_and_size(n: int) -> tuple[RunSpec, float]:
        run = with_width(spec, match.by, n * step)
        return run, model_size(run, match, costs)

    n = _nearest(lambda n: run_and_size(n)[1], target)
    run, size = run_and_size(n)
    unit = {"params": "parameters", "flops": "FLOPs"}[match.what]
    return run, f"{match.by} {n * step}: {(size - target) / target:+.2%} {unit}"


def model_size(spec: RunSpec, match: MatchSpec, costs: CostCache) -> float:
    """Return the number of parameters of the run's model, or its training FLOPs per token, as `match` specifies."""
    model = costs.with_vocabulary(spec)
    if match.what == "params":
        return count_parameters(build_on_meta(model)).total
    try:
        return count_flops(model, spec.tokens_per_sample)[2] / spec.tokens_per_sample
    except RuntimeError as error:  # torch's, from an operation that depends on values
        first_line = str(error).strip().partition("\n")[0]
        raise SpecError([Problem(spec.name, "$.match", f"cannot count FLOPs: {first_line}")]) from None


def with_width(spec: RunSpec, by: str, width: int) -> RunSpec:
    """Return the run with another d_model, or with another d_ff in every feed-forward network."""
    data = spec.resolved()
    if by == "d_model":
        data["model"]["d_model"] = width
    else:
        ffn = data["model"]["ffn"]
        networks = list(ffn) if isinstance(ffn, list) else [ffn]
        data["model"]["ffn"] = [_with_d_ff(network, width) for network in networks]
    try:
        return RunSpec.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, {(): Origin(spec.name)}) from None


def _with_d_ff(network: dict[str, Any], width: int) -> dict[str, Any]:
    replaced = {"multiplier": None} if "multiplier" in network else {}  # d_ff and multiplier exclude each other
    return {**network, **replaced, "d_ff": width}


def _width_step(spec: RunSpec, match: MatchSpec) -> int:
    """Return the number that the width must be a multiple of."""
    return match.multiple_of if match.by == "d_ff" else math.lcm(match.multiple_of, 2 * spec.model.n_heads)


def _nearest(size_of: Callable[[int], float], target: float) -> int:
    """Return the n >= 1 whose size, which increases with n, is nearest to the target."""
    high = next(n for n in _powers_of_two() if size_of(n) >= target or n >= MAX_WIDTH_STEPS)
    low = max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size_of(middle) < target else (low, middle)
    return min((low, high), key=lambda n: abs(size_of(n) - target))


def _powers_of_two() -> Iterator[int]:
    n = 1
    while True:
        yield n
        n *= 2
