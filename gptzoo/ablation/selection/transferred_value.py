"""The tuned field of a variant that is not tuned itself: it follows variants that are, such as smaller ones."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from statistics import fmean

from gptzoo.ablation.selection.learning_rate_grid import GridResult, tuned_value, with_value
from gptzoo.ablation.wording import listed
from gptzoo.spec.ablation_fairness import TuneSpec
from gptzoo.spec.run import RunSpec


def transferred_value(spec: RunSpec, tune: TuneSpec, sources: Mapping[str, tuple[RunSpec, GridResult]]) -> GridResult:
    """Multiply the variant's own value by the geometric mean of the factors that the `sources` chose.

    sources: the run of each tuned variant before tuning, and what its grid has chosen.

    Raises SpecError if the tuned field is not a number of this variant, is 0, or has bounds that the product exceeds.
    """
    names = listed(list(sources))
    own = tuned_value(spec, tune)
    if any(not result.complete for _, result in sources.values()):
        return GridResult(None, False, f"{tune.field} follows {names}, which are being tuned")
    if failed := [name for name, (_, result) in sources.items() if result.spec is None]:
        return GridResult(None, True, f"{tune.field} follows {listed(failed)}, where all values of the grid failed")
    factors = [
        tuned_value(result.spec, tune) / tuned_value(run, tune)
        for run, result in sources.values()
        if result.spec is not None
    ]
    factor = exp(fmean(map(log, factors)))
    value: float = float(f"{own * factor:.6g}")
    if isinstance(own, int):
        value = round(value)
    description = f"{tune.field} {value:g}, {factor:.3g} times its own, from {names}"
    return GridResult(with_value(spec, tune, value), True, description)
