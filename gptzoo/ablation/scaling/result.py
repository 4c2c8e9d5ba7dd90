"""The result of a scaling ladder, as JSON. `gptzoo schema ladder-result` prints its JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, WithJsonSchema

from gptzoo.ablation.comparison.result import WarningResult
from gptzoo.strict_model import StrictModel

Unbounded = Annotated[float, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]})]
"""A number that may be infinite, which JSON writes as null."""


LACK_OF_FIT_LEVEL = 0.05  # of the test


class LadderModel(StrictModel):
    """A part of the result."""

    model_config = ConfigDict(allow_inf_nan=True)


class Interval(LadderModel):
    """An estimate with its confidence interval."""

    estimate: Unbounded
    """The estimate. Null: beyond the largest number."""
    low: Unbounded
    """Lower end of the interval. Null: beyond the largest number."""
    high: Unbounded
    """Upper end of the interval. Null: beyond the largest number."""


class FTest(LadderModel):
    """An F test."""

    statistic: Unbounded
    """The F statistic. Null: infinite, because all seeds have the same loss."""
    df: tuple[int, int]
    """Degrees of freedom of the numerator and the denominator."""
    p_value: float
    """Probability of a statistic as large as this if the laws hold."""


class LadderRun(LadderModel):
    """One variant at one size, as the rule makes it."""

    label: str
    """Name of the run in the folder."""
    variant: str
    """Name of the variant."""
    n_layers: int
    """Number of layers, which is the size."""
    d_model: int
    """Width of the model."""
    n_heads: int
    """Number of attention heads."""
    batch_size: int
    """Sequences in a batch."""
    learning_rate: float | None
    """Learning rate by the rule, before any tuning. Null: the optimizer has no option `lr`."""
    n_parameters: int
    """Parameters without embeddings."""
    n_steps: int
    """Optimizer steps."""
    held_out: bool
    """True if the laws are not fitted to it."""
    repeats: float | None
    """Passes over the training text. Null: the corpus generates samples."""
    fields: dict[str, Any]
    """Fields of the base that it changes."""


class TunedRun(LadderModel):
    """The choice of tuning for one variant at one size."""

    label: str
    """Name of the run in the folder."""
    chosen: str
    """The tuned field with its value, and the values that were tried or the sizes that it follows."""


class Point(LadderModel):
    """The results of one variant at one size that the laws are fitted to."""

    variant: str
    """Name of the variant."""
    flops: float
    """Training FLOPs of one run, with embeddings and head."""
    n_parameters: int
    """Parameters without embeddings."""
    n_tokens: int
    """Training tokens of one run."""
    losses: tuple[float, ...]
    """Final value of the metric of each finished run."""
    mean: float
    """Mean of the losses."""
    residual: float
    """The mean minus the loss of the law."""


class Multiplier(LadderModel):
    """The effective compute multiplier of a variant at some training compute."""

    flops: float
    """Training FLOPs of the variant."""
    multiplier: Interval
    """The baseline needs this many times the FLOPs to reach the loss that the law of the variant has there."""


class Prediction(LadderModel):
    """The predicted mean loss of a held-out size beside the measured one."""

    variant: str
    """Name of the variant."""
    flops: float
    """Training FLOPs of one run."""
    n_parameters: int
    """Parameters without embeddings."""
    losses: tuple[float, ...]
    """Final value of the metric of each finished run."""
    predicted: Interval
    """The mean loss by the law, with the prediction interval for the mean of as many runs."""
    measured: float
    """Mean of the losses."""
    error: float
    """The measured minus the predicted loss."""
    inside: bool
    """True if the measured loss lies inside the prediction interval."""


class LawPoint(LadderModel):
    """The loss of a law at some training compute."""

    flops: float
    """Training FLOPs."""
    loss: Interval
    """Loss of the law, with its confidence interval."""


class VariantScaling(LadderModel):
    """The law of one variant, and its multipliers over the baseline."""

    variant: str
    """Name of the variant."""
    exponent: float | None
    """The exponent a of the law E + A C^-a. Null: the losses show no floor, and the law is a straight line in log C."""
    curve: tuple[LawPoint, ...]
    """The law from the smallest size to the largest size or extrapolation, to be drawn."""
    multipliers: tuple[Multiplier, ...]
    """Multiplier at each fitted size. Empty for the baseline."""
    trend: Interval | None
    """Factor of the multiplier for a factor of 10 in compute. Null for the baseline."""
    extrapolated: tuple[Multiplier, ...]
    """Multipliers beyond the fitted sizes. Empty for the baseline, and where the laws do not support them."""


class LadderAnalysis(LadderModel):
    """The fitted laws of a ladder."""

    baseline: str
    """Name of the baseline, which is the base itself."""
    confidence: float
    """Level of all intervals."""
    noise: float
    """Standard deviation between seeds, pooled over sizes and variants."""
    noise_df: int
    """Degrees of freedom of the noise."""
    irreducible: float | None
    """Irreducible loss E that all laws share. Null: the losses show no floor."""
    lack_of_fit: FTest | None
    """Test of the residuals against the noise between seeds. Null: the laws have as many parameters as points."""
    points: tuple[Point, ...]
    """Results that the laws are fitted to, with their residuals."""
    variants: tuple[VariantScaling, ...]
    """Law of each variant, the baseline first."""
    held_out: tuple[Prediction, ...]
    """Predictions of the held-out sizes."""
    unsupported: tuple[str, ...]
    """Reasons why the laws do not support an extrapolation. Empty: they do."""

    @property
    def fits(self) -> bool:
        """True unless the residuals are larger than the noise between seeds explains."""
        return self.lack_of_fit is None or self.lack_of_fit.p_value >= LACK_OF_FIT_LEVEL


class LadderResult(LadderModel):
    """The result of a scaling ladder, finished or not, and everything that it rests on."""

    format_version: Literal[1] = 1
    """Version of this format. It changes if a field is removed or gets another meaning."""
    name: str
    """Name of the ladder."""
    trained: str
    """The trained models as a sentence: data, size, steps and device."""
    findings: tuple[str, ...]
    """The findings as sentences: the laws, each variant, and the held-out sizes."""
    warnings: tuple[WarningResult, ...]
    """Reasons to doubt the findings."""
    metric: str
    """Metric that the laws describe. Lower is better."""
    unit: str
    """Unit of the metric. Empty: none."""
    analysis: LadderAnalysis | None
    """The fitted laws. Null: the results do not determine them yet."""
    missing: str
    """Reason why there are no laws. Empty: there are."""
    runs: tuple[LadderRun, ...]
    """Each variant at each size, as the rule makes it."""
    tuned: tuple[TunedRun, ...] = ()
    """The tuned value of each run, in the order of `runs`. Empty: the ladder tunes nothing."""
    n_trials: int
    """Number of trials: runs times seeds."""
    n_failed: int
    """Number of trials that ended without a result."""
    n_waiting: int
    """Number of trials that are not done yet."""
    folder: str
    """Folder of the ladder: `gptzoo report` writes its report."""
    environment: dict[str, Any]
    """Software and hardware of one of the trials."""
