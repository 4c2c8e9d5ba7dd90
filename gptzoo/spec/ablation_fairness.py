"""Conditions of a fair comparison: budgets, equal sizes, tuned learning rates, and selection among many variants."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    ValidationError,
    model_validator,
)

from gptzoo.strict_model import StrictModel, error_at, option_error

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]


def _refuse_equal_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise option_error("a seed appears twice")
    return seeds


DistinctSeeds = Annotated[
    tuple[NonNegativeInt, ...], Field(min_length=1), Strict(False), AfterValidator(_refuse_equal_seeds)
]
"""The type of an option with one or more different seeds."""

_SHARE_PER_LOOK = 2 / 3  # of the error probability that earlier looks have left


def level_of_look(alpha: float, n_looks: int) -> float:
    """Return the significance level of the last of `n_looks` looks at results; 0 looks stand for one without another.

    Each look spends two thirds of what the earlier ones have left of `alpha`. So the levels of any number of looks add
    up to less than `alpha`, and by Bonferroni's inequality they bound the probability of any error at any look.
    """
    return alpha if n_looks == 0 else alpha * _SHARE_PER_LOOK * (1 - _SHARE_PER_LOOK) ** (n_looks - 1)


class BudgetSpec(StrictModel):
    """The training budget of every variant. Give exactly one field."""

    tokens: PositiveInt | None = None
    """Training tokens per variant."""
    flops: PositiveFloat | None = None
    """Training FLOPs per variant, as counted by `gptzoo build`."""
    seconds: PositiveFloat | None = None
    """Seconds of training steps per variant. Step times are measured once, before the first trial, and stored in the
    ablation folder."""

    @model_validator(mode="after")
    def _check(self) -> BudgetSpec:
        given = [name for name in ("tokens", "flops", "seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            reason = "expected exactly one of tokens, flops and seconds"
            raise ValidationError.from_exception_data("BudgetSpec", [error_at(reason)])
        return self


class MatchSpec(StrictModel):
    """Size matching: gives every variant the size of the baseline by adjusting a width."""

    what: Literal["params", "flops"]
    """Quantity to match: the number of parameters, or training FLOPs per token."""
    by: Literal["d_ff", "d_model"]
    """Width to adjust: that of the feed-forward network (`d_ff`) or of the model (`d_model`)."""
    multiple_of: PositiveInt = 1
    """The adjusted width is a multiple of this number. `d_model` is always a multiple of twice the number of heads."""


class GridSpec(StrictModel):
    """Learning rate tuning: each variant uses the value of a grid with the best mean metric."""

    field: str = "optimizer.lr"
    """Field of the run that is tuned."""
    factors: Annotated[tuple[PositiveFloat, ...], Strict(False)] = Field(default=(0.3, 1.0, 3.0), min_length=2)
    """Values to try, as multiples of the variant's own value."""
    seeds: DistinctSeeds = (1000,)
    """Seeds of the tuning runs. They must differ from the seeds of the comparison, to avoid selection bias."""
    extend: bool = False
    """Extend a variant's grid if its best value is the lowest or the highest. Values are added one at a time, in the
    ratio of the last two, until the best one is inside, and at most 5 for each variant."""


class TuneSpec(GridSpec):
    """Learning rate tuning: each variant uses the value of a grid with the best mean metric."""

    transfer: dict[str, Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]] = Field(default={})
    """Variants that are not tuned themselves, such as large ones, each with tuned variants that it follows:
    {"large": ["small"]}. Its own value is multiplied by the geometric mean of the factors that these chose."""

    @model_validator(mode="after")
    def _check(self) -> TuneSpec:
        for name, sources in self.transfer.items():
            if following := [source for source in sources if source in self.transfer]:
                raise option_error(f"{name} follows {following[0]}, which is not tuned itself")
        return self


def _as_fractions(value: object) -> object:
    if isinstance(value, list | tuple) and (list(value) != sorted(set(value)) or len(value) == 0):
        raise option_error("expected increasing fractions of the run, such as [0.05, 0.2]")
    return value


class HalvingSpec(StrictModel):
    """Successive halving: short runs of all variants, longer runs of the best, full runs of a few."""

    eta: float = Field(default=3.0, gt=1.0)
    """Reduction factor: one in `eta` variants of a rung is promoted to the next rung. The baseline is always
    promoted."""
    rungs: Annotated[
        Annotated[int, Field(ge=1, le=10)] | Annotated[tuple[Fraction, ...], Strict(False)],
        BeforeValidator(_as_fractions),
    ] = 3
    """Number of rungs, or their positions as fractions of a run's length, such as [0.05, 0.2]. With a number, the last
    rung is at 1/eta of the length, the one before at 1/eta², and so on. A run pauses at the first evaluation at or
    after a rung."""
    seeds: DistinctSeeds = (1000,)
    """Seeds of the runs that decide about promotion. They must differ from the seeds of the comparison, to avoid
    selection bias."""

    @property
    def fractions(self) -> tuple[float, ...]:
        """The positions of the rungs, as fractions of a run's length."""
        if isinstance(self.rungs, tuple):
            return self.rungs
        return tuple(self.eta**-power for power in range(self.rungs, 0, -1))


class NoiseSpec(StrictModel):
    """Prior knowledge of the variation between seeds."""

    sd: PositiveFloat
    """Standard deviation of the metric between seeds."""
    source: str = Field(min_length=1)
    """Source of the number, printed in the plan."""
