"""The cost at which the baseline reaches the loss of a variant, in steps, tokens, FLOPs and seconds.

It follows from complete baseline runs of several lengths, each with its own learning-rate decay. A point of a learning
curve would not do: the learning rate has not decayed there, so a run planned to end there has a lower loss (Hägele et
al. 2024).

The losses of each seed are interpolated over the logarithm of the length by a monotone cubic (Fritsch and Butland
1984). At any length, the variant can then be compared with the baseline by the test that gives the verdict. The
confidence interval of the cost consists of the lengths at which this test finds no difference. So it excludes the
baseline's own length exactly if the interval of the difference excludes 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

import numpy as np
from scipy import interpolate, optimize

from gptzoo.ablation.records.analysis import Comparison, CostToReach, Range
from gptzoo.ablation.records.outcome import BaselineLength, Outcome, Variant
from gptzoo.ablation.statistics.contrast import Contrast, Endpoints, estimate_contrast
from gptzoo.ablation.statistics.cost_sentences import cost_sentence
from gptzoo.ablation.statistics.curves import curve
from gptzoo.ablation.wording import format_count, listed

MIN_LENGTHS = 3
_POINTS_PER_LENGTH = 4  # at which the difference is tested between two lengths, before the ends are refined
_TOLERANCE = 1e-8  # of the logarithm of a multiple


@dataclass(frozen=True)
class BaselineCurve:
    """The final losses of the baseline by the length of its runs, for the seeds that have all lengths."""

    multiples: Sequence[float]  # of the baseline's own number of steps, ascending
    losses: Sequence[Endpoints]  # by seed, for each length; all have the same seeds

    def at(self) -> Callable[[float], Endpoints]:
        """Return the function from the logarithm of a multiple to the interpolated losses by seed."""
        seeds = sorted(self.losses[0])
        values = np.array([[losses[seed] for seed in seeds] for losses in self.losses])
        interpolant = interpolate.PchipInterpolator(np.log(self.multiples), values, axis=0)
        return lambda x: dict(zip(seeds, interpolant(x).tolist(), strict=True))

    @property
    def falls(self) -> bool:
        """True if the mean loss falls from each length to the next."""
        means = [mean(losses.values()) for losses in self.losses]
        return all(a > b for a, b in itertools.pairwise(means))


def baseline_curve(outcome: Outcome) -> BaselineCurve | str:
    """Return the losses of the baseline by length, or why there is no such curve."""
    by_multiple: dict[float, Endpoints] = {1.0: outcome.endpoints(outcome.baseline)}
    own_steps = _baseline(outcome).steps
    for length in outcome.baseline_lengths:
        multiple = length.multiple if own_steps is None else length.steps / own_steps
        by_multiple[multiple] = _endpoints(length, outcome.metric)
    lengths = {multiple: losses for multiple, losses in sorted(by_multiple.items()) if losses}
    if len(lengths) < MIN_LENGTHS:
        return f"runs of {len(lengths)} lengths have a result, and {MIN_LENGTHS} are needed"
    seeds = set.intersection(*(set(losses) for losses in lengths.values()))
    if not seeds:
        return "no seed has a result at all lengths"
    complete = [{seed: losses[seed] for seed in sorted(seeds)} for losses in lengths.values()]
    made = BaselineCurve(list(lengths), complete)
    return made if made.falls else f"its mean {outcome.metric} does not fall from each length to the next"


def costs_to_reach(outcome: Outcome, comparisons: Sequence[Comparison]) -> list[CostToReach]:
    """Return the cost of reaching each compared variant's loss. () without a curve of the baseline."""
    if not outcome.baseline_lengths or isinstance(made := baseline_curve(outcome), str):
        return []
    variants = {variant.name: variant for variant in outcome.variants}
    own = _total_costs(outcome, variants[outcome.baseline])
    costs = []
    for comparison in comparisons:
        if comparison.level is None:
            continue
        variant = variants[comparison.variant]
        reached = invert_test(outcome.endpoints(variant.name), made, paired=outcome.paired, level=comparison.level)
        cost = CostToReach(
            variant=variant.name,
            multiple=reached.multiple,
            needed={name: reached.multiple.times(total) for name, total in own.items()},
            spent=_total_costs(outcome, variant),
            shortest=made.multiples[0],
            longest=made.multiples[-1],
            beyond=reached.beyond,
            n=reached.n,
            sentence="",
        )
        costs.append(replace(cost, sentence=cost_sentence(cost, outcome.baseline, outcome.metric)))
    return costs


def cost_notes(outcome: Outcome) -> Iterator[str]:
    """Yield why there are no costs, and which baseline runs of other lengths are left out."""
    if not outcome.baseline_lengths:
        return
    made = baseline_curve(outcome)
    if isinstance(made, str):
        yield f"What {outcome.baseline} needs to reach the losses of the others is not known: {made}."
    trials = [trial for length in outcome.baseline_lengths for trial in length.trials]
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        names = listed([f"{trial.variant} seed {trial.seed}" for trial in failed])
        yield (
            f"{len(failed)} of {format_count(len(trials), 'run')} of {outcome.baseline} at other lengths failed "
            f"({names}). Costs use only the seeds that have a result at each length."
        )


@dataclass(frozen=True)
class Reached:
    """The multiple of its own length at which the baseline reaches a loss."""

    multiple: Range
    beyond: Literal["", "shortest", "longest"]  # the end of the trained lengths beyond which the value lies
    n: int


def invert_test(losses: Endpoints, made: BaselineCurve, *, paired: bool, level: float) -> Reached:
    """Return the multiples at which the difference from the baseline is 0, and those at which its interval contains 0.

    level: error probability of the interval.
    """
    interpolated = made.at()

    def contrast_at(x: float) -> Contrast:
        contrast = estimate_contrast([(1, losses), (-1, interpolated(x))], paired=paired)
        assert contrast is not None  # both sides have values
        return contrast

    def difference_at(x: float) -> float:
        return contrast_at(x).value

    def distance_at(x: float) -> float:
        """Return the distance from 0 to the interval of the difference, negative if it contains 0."""
        low, high = contrast_at(x).interval(level)
        assert low is not None
        assert high is not None
        return max(low, -high)

    lengths = [math.log(multiple) for multiple in made.multiples]
    first, last = lengths[0], lengths[-1]
    # The difference rises with the length, because the loss of the baseline falls.
    beyond: Literal["", "shortest", "longest"] = ""
    if difference_at(first) > 0:
        beyond = "shortest"
    elif difference_at(last) < 0:
        beyond = "longest"
    root = None if beyond else float(optimize.brentq(difference_at, first, last, xtol=_TOLERANCE))
    value = None if root is None else math.exp(root)
    low = high = None
    n = contrast_at(first).n
    if contrast_at(first).error is not None:
        low, high = _interval(distance_at, lengths, root, beyond)
    return Reached(Range(value, low, high), beyond, n)


def _interval(
    distance_at: Callable[[float], float], lengths: Sequence[float], root: float | None, beyond: str
) -> tuple[float | None, float | None]:
    """Return the smallest and the largest multiple that the test does not reject. An end that is not found is None."""
    between = [np.linspace(*ends, _POINTS_PER_LENGTH, endpoint=False).tolist() for ends in itertools.pairwise(lengths)]
    points = sorted({*itertools.chain(*between), lengths[-1], *([] if root is None else [root])})
    inside = [point for point in points if point == root or distance_at(point) <= 0]
    if not inside:
        return (math.exp(lengths[-1]), None) if beyond == "longest" else (None, math.exp(lengths[0]))
    ends: list[float | None] = []
    for end, step in ((inside[0], -1), (inside[-1], 1)):
        index = points.index(end) + step
        if not 0 <= index < len(points):
            ends.append(None)
        elif distance_at(end) >= 0:  # the root itself, if nothing varies
            ends.append(math.exp(end))
        else:
            ends.append(math.exp(float(optimize.brentq(distance_at, end, points[index], xtol=_TOLERANCE))))
    return ends[0], ends[1]


def _endpoints(length: BaselineLength, metric: str) -> Endpoints:
    values = {trial.seed: trial.last(metric) for trial in length.trials}
    return {seed: value for seed, value in values.items() if value is not None}


def _baseline(outcome: Outcome) -> Variant:
    return next(variant for variant in outcome.variants if variant.name == outcome.baseline)


def _total_costs(outcome: Outcome, variant: Variant) -> dict[str, float]:
    """Return the known costs of one trial: steps, tokens and FLOPs as planned, and seconds of steps as measured."""
    measured = curve(outcome, variant, outcome.metric)
    seconds = None if measured is None else measured.costs.get("seconds")
    costs = {
        "steps": variant.steps,
        "tokens": variant.tokens,
        "flops": variant.flops,
        "seconds": None if seconds is None else float(seconds[-1]),
    }
    return {name: cost for name, cost in costs.items() if cost is not None}
