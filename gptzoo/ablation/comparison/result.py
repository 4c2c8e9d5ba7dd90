"""The result of a comparison of two runs, as JSON. `gptzoo schema comparison` prints its JSON Schema."""

from __future__ import annotations

from typing import Any, Literal, Self

from gptzoo.ablation.records.analysis import Verdict
from gptzoo.ablation.records.warning import ComparisonWarning, WarningKind
from gptzoo.strict_model import StrictModel
from gptzoo.utils.notebook.view import NotebookView


class WarningResult(StrictModel):
    """A reason to doubt the verdict."""

    kind: WarningKind
    """Category of the warning."""
    text: str
    """The warning as complete sentences, clear when read alone."""
    variants: tuple[str, ...] = ()
    """Names of the runs that it concerns. Empty: both."""

    @classmethod
    def of(cls, warning: ComparisonWarning) -> Self:
        """Return the record of a warning."""
        return cls(kind=warning.kind, text=warning.text, variants=tuple(warning.variants))

    def __str__(self) -> str:
        return f"Warning: {self.text}"


class IntervalResult(StrictModel):
    """A number with its confidence interval."""

    value: float
    """The estimate."""
    low: float | None
    """Lower end of the interval. Null: a single seed gives no interval."""
    high: float | None
    """Upper end of the interval. Null: a single seed gives no interval."""


class FailedSeed(StrictModel):
    """A trial without a result."""

    seed: int
    """Seed of the trial."""
    reason: str
    """Reason of the failure."""


class RangeResult(StrictModel):
    """A number with its interval, of which some may be unknown."""

    value: float | None
    """The estimate. Null: it lies outside the lengths that were trained."""
    low: float | None
    """Lower end of the interval. Null: no lower bound follows from the lengths that were trained, or from one seed."""
    high: float | None
    """Upper end of the interval. Null: no upper bound follows from the lengths that were trained, or from one seed."""


class CostToReachResult(StrictModel):
    """The cost at which run A reaches the mean loss of run B, from complete runs of A of other lengths."""

    multiple: RangeResult
    """Number of steps that A needs, as a multiple of its own."""
    needed: dict[Literal["steps", "tokens", "flops", "seconds"], RangeResult]
    """The same in steps, tokens, training FLOPs and seconds of training steps, as far as they are known."""
    spent: dict[Literal["steps", "tokens", "flops", "seconds"], float]
    """Costs of one trial of B."""
    shortest: float
    """Length of the shortest runs of A, as a multiple of its own."""
    longest: float
    """Length of the longest runs of A, as a multiple of its own."""
    beyond: Literal["", "shortest", "longest"]
    """End of these lengths beyond which the value lies. Empty: it lies within."""
    n: int
    """Number of pairs, or number of seeds of the smaller side."""
    sentence: str
    """The cost as sentences."""


class SideResult(StrictModel):
    """One of the two runs, with its results."""

    name: str
    """Name of the run in sentences, tables and folders."""
    parameters: int
    """Number of parameters of the model."""
    steps: int | None
    """Optimizer steps of one trial."""
    tokens: int | None
    """Training tokens of one trial."""
    flops: float | None
    """Training FLOPs of one trial. Null: they cannot be counted."""
    mean: IntervalResult | None
    """Mean of the metric over seeds, with a confidence interval at the level of the verdict. Null: no trial ended."""
    values: dict[str, float]
    """Final value of the metric of each trial that is done, by seed."""
    failed: tuple[FailedSeed, ...]
    """Trials that ended without a result."""
    spec: dict[str, Any]
    """The run spec with all defaults, without its seed."""


class LookResult(StrictModel):
    """A look at the results, after which seeds could be added."""

    seeds: int
    """Number of seeds of each run at this look."""
    level: float
    """Part of `alpha` that this look spends: the error probability of its interval."""
    verdict: Verdict
    """Verdict from the first `seeds` seeds at this level."""


class ComparisonResult(StrictModel, NotebookView):
    """The verdict on run B against run A, and everything that it rests on. Differences are B minus A."""

    format_version: Literal[1] = 1
    """Version of this format. It changes if a field is removed or gets another meaning."""
    verdict: Verdict
    """`better`, `worse` or `same` (within the margin): B against A, by the confidence interval of the difference.
    `cannot tell`: the interval allows several of them. `no data`: all trials of a run failed."""
    trained: str
    """The trained models as a sentence: data, size, steps and device."""
    sentence: str
    """The verdict as a sentence, with unit, interval and number of runs."""
    warnings: tuple[WarningResult, ...]
    """Reasons to doubt the verdict, the most important first."""
    metric: str
    """Metric that is compared at the end of training."""
    higher_is_better: bool = False
    """Direction of the metric. False: lower values are better, as those of a loss."""
    unit: str
    """Unit of the metric and of differences. Empty: none."""
    a: SideResult
    """Run A, the baseline."""
    b: SideResult
    """Run B."""
    changes: tuple[str, ...]
    """Differences of B from A in their specs, such as `model.norm: pre_ln -> post_ln`."""
    difference: IntervalResult | None
    """Mean difference of the metric, B minus A, with the confidence interval that decides. With a metric that is
    lower for better models, a negative difference says that B is better."""
    cost_to_reach: CostToReachResult | None = None
    """Cost at which A reaches the loss of B, in steps, tokens, FLOPs and seconds. Null: not asked for, or not known."""
    paired: bool
    """True if trials with the same seed share data order and initial values and are compared in pairs."""
    n: int
    """Number of pairs, or number of seeds of the smaller side. 0 without data."""
    p: float | None
    """Two-sided p value of the hypothesis of no difference."""
    effect_size: float | None
    """The difference in standard deviations over seeds."""
    detectable: float | None
    """Smallest true difference that this number of seeds detects with a power of 80%, in the unit of the metric."""
    more_seeds: int | None
    """If the verdict is `cannot tell`: seeds to add for a decision, if the true difference is the estimated one."""
    margin: float
    """Equivalence margin in the unit of the metric: smaller differences are `same`."""
    alpha: float
    """Bound of the probability of calling equal runs different, over all looks."""
    looks: tuple[LookResult, ...]
    """All looks at the results, the current one last."""
    notes: tuple[str, ...]
    """Caveats of the statistics."""
    folder: str
    """Folder of the comparison, which is an ablation folder: `gptzoo report` writes its report."""
    environment: dict[str, Any]
    """Software and hardware of one of the trials."""
