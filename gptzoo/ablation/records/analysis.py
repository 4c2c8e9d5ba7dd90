"""The results of the statistics of an ablation, as plain data for its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gptzoo.ablation.records.tasks import TaskMetric
from gptzoo.ablation.records.warning import ComparisonWarning

Verdict = Literal["better", "worse", "same", "cannot tell", "no data", "stopped"]
Cost = Literal["step", "tokens", "flops", "seconds"]  # cumulative training cost of one trial: the x axis of curves


@dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval. `low` and `high` are None if a single value gives no interval."""

    value: float
    low: float | None
    high: float | None
    n: int  # number of values
    sd: float | None  # standard deviation of the values


@dataclass(frozen=True)
class Comparison:
    """A variant compared with the baseline. Differences are variant minus baseline: a negative loss is better.

    The confidence level of the interval is that of the comparison's step in Holm's correction. The verdict follows from
    the interval.
    """

    variant: str
    verdict: Verdict
    difference: Estimate | None
    paired: bool
    p: float | None  # p value of the hypothesis of no difference
    p_adjusted: float | None  # p value with Holm's correction for the number of comparisons
    effect_size: float | None  # the difference in standard deviations over seeds
    detectable: float | None  # the smallest true difference that these n detect with the specified power
    more_seeds: int | None  # seeds to add for a decision, if the verdict is "cannot tell"
    n_failed: int  # number of the variant's trials without an endpoint
    sentence: str  # the verdict as a complete sentence
    level: float | None = None  # error probability of the interval; None without an interval


@dataclass(frozen=True)
class Range:
    """A number that is known to lie in an interval. None stands for an unknown end, and for an unknown value."""

    value: float | None
    low: float | None
    high: float | None

    def times(self, factor: float) -> Range:
        """Return the range in another unit."""
        return Range(*(None if number is None else number * factor for number in (self.value, self.low, self.high)))


@dataclass(frozen=True)
class CostToReach:
    """The cost at which the baseline reaches the mean loss of a variant, from complete baseline runs of other lengths.

    The value is None if it lies outside the lengths that were trained, and an end of the interval is None if no bound
    follows from them. With a single seed, both ends are None.
    """

    variant: str
    multiple: Range  # of the number of steps of the baseline's own runs
    needed: Mapping[str, Range]  # the same in "steps", "tokens", "flops" and "seconds", as far as they are known
    spent: Mapping[str, float]  # costs of one trial of the variant itself
    shortest: float  # multiple of the shortest baseline runs
    longest: float  # multiple of the longest baseline runs
    beyond: Literal["", "shortest", "longest"]  # the end of these lengths beyond which the value lies; "" if within
    n: int  # number of pairs, or number of seeds of the smaller side
    sentence: str  # the cost as complete sentences


@dataclass(frozen=True)
class Effect:
    """An effect in a factorial design.

    A main effect is the average effect of one choice over all other choices. An interaction is the effect of two
    choices together beyond the sum of their main effects.
    """

    choices: Mapping[str, str]  # one choice for a main effect, two for an interaction
    reference: Mapping[str, str]  # the choices on the same axes that they are compared with
    estimate: Estimate
    p_adjusted: float | None
    verdict: Verdict
    effect_size: float | None = None  # the estimate in standard deviations over seeds
    sentence: str = ""  # the verdict as a complete sentence


@dataclass(frozen=True)
class Band:
    """A training curve of a variant: the mean of a metric over its seeds, with an interval, where all have values."""

    variant: str
    metric: str
    against: Cost
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True)
class Matched:
    """The losses of all variants at equal cost, which is the total cost of the cheapest variant."""

    cost: float  # FLOPs or seconds of one trial
    losses: Mapping[str, Estimate]  # by variant, interpolated linearly between two evaluations
    cut_short: Sequence[str]  # variants whose training continued, so their learning rate had not decayed fully here
    untold: Sequence[str] = ()  # variants whose evaluations are too far apart to interpolate (a JSON key)


@dataclass(frozen=True)
class ParetoPoint:
    """A variant in the plane of loss and one cost."""

    variant: str
    loss: float
    cost: float
    on_front: bool  # True if no cheaper variant is as good, to within the margin


@dataclass(frozen=True)
class TaskScore:
    """The score of a variant in one metric of a task of lm-evaluation-harness."""

    task: str
    metric: str
    higher_is_better: bool
    variant: str
    values: Mapping[int, float]  # by seed
    mean: Estimate | None
    difference: Estimate | None  # variant minus baseline; corrected for all scores of all variants (Holm)
    p: float | None
    p_adjusted: float | None
    verdict: Verdict | None  # None for the baseline
    paired: bool | None = None  # how the difference was estimated; None without one


@dataclass(frozen=True)
class TaskResult:
    """The results of a variant in one metric of its task."""

    task: str
    variant: str
    model: str  # choices of the variant on all axes but those over tasks
    metric: TaskMetric
    values: Mapping[int, float]  # by seed
    mean: Estimate | None  # over seeds, with an interval within 0 to 1
    n_solved: int  # seeds with at least `SOLVED`
    solved_low: float  # exact binomial interval of the probability that a seed solves the task
    solved_high: float

    @property
    def column(self) -> str:
        """The task, with the metric unless that is the accuracy on samples as in training."""
        return self.task if self.metric.label == "accuracy" else f"{self.task}: {self.metric.label}"


@dataclass(frozen=True)
class Analysis:
    """All results that a report states. Variants without any endpoint are in `comparisons` with "no data"."""

    baseline: str
    metric: str
    ranking: Mapping[str, Estimate]  # by variant, best first
    comparisons: Sequence[Comparison]  # of each other variant with the baseline, in ranking order; stopped ones last
    noise: Estimate | None  # standard deviation over seeds, pooled over variants
    effects: Sequence[Effect]  # () unless the design is factorial
    bands: Sequence[Band]
    matched: Mapping[Cost, Matched]  # by "flops" and "seconds", if that cost of every variant is known
    fronts: Mapping[str, Sequence[ParetoPoint]]  # by cost: "parameters", "seconds per token", "memory", "cache"
    notes: Sequence[str]  # caveats: unequal seeds, assumptions that do not hold
    scores: Sequence[TaskScore] = ()  # by task, metric and variant; the baseline comes first
    warnings: Sequence[ComparisonWarning] = ()  # reasons to doubt the comparison as a whole
    tasks: Sequence[TaskResult] = ()  # by task, metric and variant; () without synthetic tasks
    trained: str = ""  # the trained models as a sentence: data, size, steps and device
    costs: Sequence[CostToReach] = ()  # by variant, in the order of the comparisons; () without `baseline_lengths`
    higher_is_better: bool = False  # direction of the metric
    unit: str = ""  # unit of the metric and of all differences, such as "nats per token"; "" if unknown
