"""What the statistics say of an ablation, as its report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "same", "cannot tell", "no data", "stopped"]
Cost = Literal["step", "tokens", "flops", "seconds"]  # what training has taken so far, of one trial


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval; both ends None where one value tells nothing of the spread."""

    value: float
    low: float | None
    high: float | None
    n: int  # values that it rests on
    sd: float | None  # of one value


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline; differences are variant minus baseline, so below 0 is better.

    The interval of the difference is at the level of its step in Holm's correction, and the verdict is read off it.
    """

    variant: str
    verdict: Verdict
    difference: Estimate | None
    paired: bool
    p: float | None  # of no difference at all
    p_adjusted: float | None  # for the number of comparisons (Holm)
    effect_size: float | None  # the difference in standard deviations over seeds
    detectable: float | None  # the smallest true difference found with the wanted power, given these n
    more_seeds: int | None  # that would tell, where it cannot be told
    n_failed: int  # trials of the variant without an endpoint
    sentence: str  # the verdict in words, whole


@dataclass(frozen=True)
class Effect:
    """Of a factorial design: what a choice does on average over all others, or what two choices do beyond their sum."""

    choices: Mapping[str, str]  # one for a main effect, two for an interaction
    reference: Mapping[str, str]  # what they are compared with on the same axes
    estimate: Estimate
    p_adjusted: float | None
    verdict: Verdict
    effect_size: float | None = None  # the estimate in standard deviations over seeds
    sentence: str = ""  # the verdict in words, whole


@dataclass(frozen=True)
class Band:
    """A metric of a variant along training: mean over seeds with its interval, where all its seeds have a value."""

    variant: str
    metric: str
    against: Cost
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True)
class Matched:
    """Losses where all variants have cost the same: at the end of the one that ended cheapest."""

    cost: float  # FLOPs or seconds, of one trial
    losses: Mapping[str, Estimate]  # by variant, between two evaluations on the straight line
    cut_short: Sequence[str]  # variants whose trials went on: their learning rate was not at its end yet
    untold: Sequence[str] = ()  # variants without a loss: their evaluations are too far apart for a straight line


@dataclass(frozen=True)
class Point:
    """A variant in the plane of loss and one cost."""

    variant: str
    loss: float
    cost: float
    on_front: bool  # no cheaper one is as good, to within the margin


@dataclass(frozen=True)
class Analysis:
    """Everything that a report states. Variants without any endpoint are in `comparisons` as "no data"."""

    baseline: str
    metric: str
    ranking: Mapping[str, Estimate]  # by variant, best first
    comparisons: Sequence[Comparison]  # of all others with the baseline, in the order of the ranking; stopped ones last
    noise: Estimate | None  # standard deviation over seeds, pooled over variants
    effects: Sequence[Effect]  # none where the design is not factorial
    bands: Sequence[Band]
    matched: Mapping[Cost, Matched]  # by "flops" and "seconds", where they are known of every variant
    fronts: Mapping[str, Sequence[Point]]  # by cost: "parameters", "seconds per token", "memory", "cache"
    notes: Sequence[str]  # what a reader must know: failures, unequal seeds, assumptions that do not hold
