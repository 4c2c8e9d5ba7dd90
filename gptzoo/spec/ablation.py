"""The spec of an ablation: a run, the axes along which it is varied, and what makes the comparison a fair one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from gptzoo.component import SpecModel, custom_error, error_at
from gptzoo.reference import Reference, by_default
from gptzoo.spec.run import RunSpec

Share = Annotated[float, Field(gt=0.0, le=1.0)]

Mode = Literal["grid", "one_at_a_time", "paired", "random", "latin", "tpe"]

_LENGTH = ("steps", "tokens", "epochs")


class _RunJson:
    """JSON that is valid as a run spec, and stays as it was written: what it leaves out still inherits."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        shown: dict[str, Any] = handler(RunSpec.__pydantic_core_schema__)
        return shown


def _valid_run(value: Any, handler: Any, info: ValidationInfo) -> Any:
    RunSpec.model_validate(value, context=info.context)
    return handler(value)


class AxisSpec(SpecModel):
    """What one axis chooses from; a plain list, or "*", is short for its choices."""

    choices: Literal["*"] | Annotated[tuple[Any, ...], Strict(False)] | dict[str, Any] | None = None
    """Values of the field, in a list or by label; "*" is every registered component of the field's kind. An axis of
    several fields has objects of them by label: {"swiglu": {"model.ffn": "glu", "model.activation": "silu"}}."""
    low: int | float | None = None
    """Of a range in place of choices, for mode tpe; whole numbers are drawn if both ends are whole."""
    high: int | float | None = None
    """The other end, which belongs to it."""
    log: bool = False
    """Whether a range is drawn from evenly in its logarithm."""
    when: dict[str, Any] = {}
    """Labels of other axes, by axis, under which this axis is there at all: {"model.attention": ["sdpa"]}."""

    @model_validator(mode="after")
    def _check(self) -> AxisSpec:
        errors = []
        if self.low is None and self.high is None:
            if not self.choices:
                errors.append(error_at("an axis without choices", "choices"))
            if self.log:
                errors.append(error_at("is of a range; give low and high", "log"))
        elif self.choices is not None or self.low is None or self.high is None:
            errors.append(error_at("an axis has either choices, or a range from low to high"))
        elif self.low >= self.high:
            errors.append(error_at(f"the range from {self.low} to {self.high} is empty", "high"))
        elif self.log and self.low <= 0:
            errors.append(error_at("a range with logarithms begins above 0", "low"))
        if errors:
            raise ValidationError.from_exception_data("AxisSpec", errors)
        return self


def _spelled_out(value: Any) -> Any:
    return {"choices": value} if isinstance(value, list | tuple) or value == "*" else value


Axis = Annotated[AxisSpec, BeforeValidator(_spelled_out, json_schema_input_type=AxisSpec | list[Any] | Literal["*"])]


class ExclusionSpec(SpecModel):
    """Points of the design that are left out."""

    when: dict[str, Any] = Field(min_length=1)
    """Labels by axis, one or a list of them; a point that has one of each is left out."""
    because: str = ""
    """The reason, as the plan and the report state it."""


class BudgetSpec(SpecModel):
    """What every variant may spend; give one. Without a budget each has the length that the base says."""

    tokens: PositiveInt | None = None
    """Training tokens."""
    flops: PositiveFloat | None = None
    """FLOPs of training, as `gptzoo build` counts them."""
    seconds: PositiveFloat | None = None
    """Time of training steps alone, by a calibration before the first trial, which is kept in the folder."""

    @model_validator(mode="after")
    def _check(self) -> BudgetSpec:
        given = [name for name in ("tokens", "flops", "seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValidationError.from_exception_data("BudgetSpec", [error_at("give one of tokens, flops and seconds")])
        return self


class MatchSpec(SpecModel):
    """What every variant has as much of as the baseline, by a width of its own."""

    what: Literal["params", "flops"]
    """Parameters, or FLOPs of training per token."""
    by: Literal["d_ff", "d_model"]
    """The width that is adjusted, of the feed-forward network or of the model."""
    multiple_of: PositiveInt = 1
    """What the width stays a multiple of; d_model in any case of twice the number of heads."""


class TuneSpec(SpecModel):
    """A grid of learning rates for every variant, so that nobody wins by a tuned baseline. Each keeps the value that
    had the lowest mean of the metric."""

    field: str = "optimizer.lr"
    """The field that is tuned."""
    factors: Annotated[tuple[PositiveFloat, ...], Strict(False)] = Field(default=(0.3, 1.0, 3.0), min_length=2)
    """What is tried of every variant, as multiples of its own value."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Strict(False)] = Field(default=(1000,), min_length=1)
    """Seeds of the tries; none of those that variants are compared with, lest the best of luck be compared."""


def _as_shares(value: Any) -> Any:
    if isinstance(value, list | tuple) and (list(value) != sorted(set(value)) or len(value) == 0):
        raise custom_error("give the shares of the run in rising order: [0.05, 0.2]")
    return value


class HalvingSpec(SpecModel):
    """Successive halving: all variants are trained a little, the best of them more, and few to the end."""

    eta: float = Field(default=3.0, gt=1.0)
    """Of the variants in a rung, one in eta goes on; the baseline beside them in any case."""
    rungs: Annotated[
        Annotated[int, Field(ge=1, le=10)] | Annotated[tuple[Share, ...], Strict(False)], BeforeValidator(_as_shares)
    ] = 3
    """How many rungs there are: the last at 1/eta of a run's length, the one before at 1/eta², and so on. Or where they
    are, in shares of the length: [0.05, 0.2]. A run pauses at its first evaluation from there on."""
    seeds: Annotated[tuple[NonNegativeInt, ...], Strict(False)] = Field(default=(1000,), min_length=1)
    """Seeds that the rungs are judged by; none of those that variants are compared with, lest the best of luck be
    compared."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Where the rungs are, in shares of a run's length."""
        if isinstance(self.rungs, tuple):
            return self.rungs
        return tuple(self.eta**-power for power in range(self.rungs, 0, -1))


class NoiseSpec(SpecModel):
    """What is known beforehand of the spread over seeds."""

    sd: PositiveFloat
    """Standard deviation of the metric over seeds."""
    source: str = Field(min_length=1)
    """Where that is known from."""


def _as_seeds(value: Any) -> Any:
    return tuple(range(1, value + 1)) if isinstance(value, int) and not isinstance(value, bool) else value


Seeds = Annotated[
    tuple[NonNegativeInt, ...],
    Field(min_length=1),
    Strict(False),
    BeforeValidator(_as_seeds, json_schema_input_type=PositiveInt | list[NonNegativeInt]),
]


class AblationSpec(SpecModel):
    """An ablation, described: which runs it consists of and what they are compared by."""

    spec_version: Literal[1] = 1
    """Of this format."""
    name: str = "ablation"
    """What tables and reports call it."""
    base: Annotated[dict[str, Any], WrapValidator(_valid_run), _RunJson()]
    """The run that all are variants of, inline or as the path of a run spec, relative to this file."""
    axes: dict[str, Axis] = Field(min_length=1)
    """What is varied. A key is a field of the run (`model.norm`, `optimizer.lr`), or else a name for an axis whose
    choices each set several fields."""
    mode: Mode = "grid"
    """Which points of the grid there are. `grid`: all. `one_at_a_time`: the baseline and what differs from it in one
    choice. `paired`: the first choices of all axes, the second ones, and so on. `random`: some points. `latin`: points
    in which each choice of an axis occurs equally often. `tpe`: points that Optuna suggests by what was found of those
    before, at the first rung of halving."""
    n_variants: PositiveInt | None = None
    """How many points, of random, latin and tpe; latin without it has as many as its longest axis."""
    n_at_once: PositiveInt | None = None
    """How many points tpe suggests before it is told of any of them; 4 if left out. More keep more workers busy, and
    each is chosen by less."""
    draw_seed: NonNegativeInt = 0
    """Of the choice of points in random, latin and tpe."""
    baseline: dict[str, Any] = {}
    """The label on each axis of the variant that all are compared with. Left out: the base's own value where it is
    among the choices, else the first."""
    exclude: Annotated[tuple[ExclusionSpec, ...], Strict(False)] = ()
    """Points that are left out, with the reason."""
    seeds: Seeds = (1, 2, 3)
    """Of every variant: a list, or how many, counted from 1. More may be added later; only the new ones are trained."""
    budget: BudgetSpec | None = None
    """Left out, each variant has the length that the base says."""
    match: MatchSpec | None = None
    """Left out, variants are as large as they are."""
    tune: TuneSpec | None = None
    """Left out, all variants have the base's learning rate."""
    halving: HalvingSpec | None = None
    """Left out, all variants are trained to the end."""
    metric: str = "val/loss"
    """What is compared at the end of a run; lower is better."""
    margin: NonNegativeFloat = 0.001
    """Differences whose interval lies inside it are the same: what you would not care about. Rounding is inside the
    default; 0 leaves only runs that are equal bit by bit."""
    alpha: float = Field(default=0.05, gt=0.0, lt=1.0)
    """How often a difference may be called where there is none, over all comparisons together."""
    power: float = Field(default=0.8, gt=0.0, lt=1.0)
    """How often a difference of the detectable size is to be found."""
    seed_noise: NoiseSpec | None = None
    """For a plan before there are results; after two seeds of a variant its own are used."""
    executor: Annotated[Any, Reference("executor")] = by_default("local")
    """Where trials run."""
    retries: NonNegativeInt = 1
    """How often a trial that crashed or hung is tried again."""
    silence: PositiveFloat | None = 3600.0
    """Seconds without a step after which a trial counts as hung; null waits for ever."""
    samples: bool = True
    """Whether each trial writes a sample of text at its end."""

    _folder: Path

    def model_post_init(self, context: Any) -> None:
        self._folder = (context or {}).get("folder", Path.cwd())

    @property
    def folder(self) -> Path:
        """What relative paths in the choices are relative to."""
        return self._folder

    @model_validator(mode="after")
    def _check(self) -> AblationSpec:
        errors = list(self._problems())
        if errors:
            raise ValidationError.from_exception_data("AblationSpec", errors)
        return self

    def _problems(self) -> Iterator[InitErrorDetails]:
        for name in ("seed", *_LENGTH):
            if name in self.axes:
                advice = "give seeds" if name == "seed" else "give a budget; variants of unlike lengths do not compare"
                yield error_at(f"is no axis: {advice}", "axes", name)
        if len(set(self.seeds)) < len(self.seeds):
            yield error_at("a seed is there twice", "seeds")
        if self.mode in ("random", "tpe") and self.n_variants is None:
            yield error_at("say how many variants to draw", "n_variants")
        if self.mode not in ("random", "latin", "tpe") and self.n_variants is not None:
            yield error_at(f"is for random, latin and tpe; {self.mode} has all its points", "n_variants")
        if self.mode != "tpe":
            if self.n_at_once is not None:
                yield error_at(f"is for tpe; {self.mode} has all its points beforehand", "n_at_once")
            for name, axis in self.axes.items():
                if axis.low is not None:
                    yield error_at("a range is for mode tpe; give choices", "axes", name)
        elif self.halving is None:
            yield error_at('mode tpe judges what it suggests at the first rung: give {"rungs": [0.3]}', "halving")
        if self.tune is not None and (both := sorted({*self.tune.seeds} & {*self.seeds})):
            yield error_at(f"variants are compared with seed {both[0]}; tune with others", "tune", "seeds")
        if self.tune is not None and self.tune.field in self.axes:
            yield error_at("is an axis already; tune it or compare it", "tune", "field")
        if self.halving is not None:
            if both := sorted({*self.halving.seeds} & {*self.seeds}):
                yield error_at(f"variants are compared with seed {both[0]}; select with others", "halving", "seeds")
            if len(set(self.halving.seeds)) < len(self.halving.seeds):
                yield error_at("a seed is there twice", "halving", "seeds")
            if self.tune is not None:
                reason = "tuning would train every variant to its end; make tune.field an axis and let halving choose"
                yield error_at(reason, "halving")
