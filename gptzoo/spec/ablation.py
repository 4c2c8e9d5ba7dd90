"""`AblationSpec`, the spec of an ablation: a base run, the axes that vary it, and the rules of the comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, core_schema

from gptzoo.reference import Reference, by_default
from gptzoo.spec.ablation_axes import Axis, ExclusionSpec
from gptzoo.spec.ablation_fairness import (
    BudgetSpec,
    DistinctSeeds,
    HalvingSpec,
    MatchSpec,
    NoiseSpec,
    TuneSpec,
    level_of_look,
)
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import StrictModel, error_at, option_error
from gptzoo.utils.notebook.view import NotebookView

Mode = Literal["grid", "one_at_a_time", "paired", "random", "latin", "tpe"]

_LENGTH_FIELDS = ("steps", "tokens", "epochs")
_MAX_SEEDS = 10_000  # if a number stands for them


class _RunJson:
    """JSON that is valid as a run spec but stays as it was written, so that omitted options still inherit."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        run_schema: dict[str, Any] = handler(RunSpec.__pydantic_core_schema__)
        return run_schema


def _valid_run(value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
    RunSpec.model_validate(value, context=info.context)
    return handler(value)


def _as_seeds(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value > _MAX_SEEDS:
        raise option_error(f"should be at most {_MAX_SEEDS}, got {value}")
    return tuple(range(1, value + 1))


RunJson = Annotated[dict[str, Any], WrapValidator(_valid_run), _RunJson()]

Seeds = Annotated[
    DistinctSeeds,
    BeforeValidator(_as_seeds, json_schema_input_type=PositiveInt | list[NonNegativeInt]),
]


class HarnessSpec(StrictModel):
    """Tasks of lm-evaluation-harness, on which each trial is scored after training."""

    tasks: Annotated[tuple[str, ...], Strict(False)] = Field(min_length=1)
    """Names of tasks or groups of the harness, such as `hellaswag`. A trial is scored only on tasks for which it has no
    scores yet."""
    limit: PositiveInt | None = None
    """Number of documents per task. Default: all."""
    num_fewshot: NonNegativeInt | None = None
    """Number of examples before each question. Default: that of the task."""
    include_path: str | None = None
    """Folder with more task files, relative to this file. Default: only the tasks of the harness."""


class AblationSpec(StrictModel, NotebookView):
    """The spec of an ablation: the runs that it consists of and how they are compared."""

    spec_version: Literal[1] = 1
    """Version of the spec format."""
    name: str = "ablation"
    """Name of the ablation in tables and reports."""
    base: RunJson
    """The run that all variants are derived from: an inline run spec, or the path of one relative to this file."""
    axes: dict[str, Axis] = Field(min_length=1)
    """Axes of the design, by name. A key is a field of the run, such as `model.norm` or `optimizer.lr`, or any other
    name for an axis over several fields."""
    mode: Mode = "grid"
    """Points of the design. `grid`: all combinations. `one_at_a_time`: the baseline, and the points that differ from it
    on one axis. `paired`: the first choices of all axes, the second choices, and so on. `random`: a random sample of
    the grid. `latin`: a sample in which every choice of an axis appears equally often. `tpe`: points suggested by
    Optuna from the results of earlier points at the first rung of halving."""
    n_variants: PositiveInt | None = None
    """Number of points in the modes `random`, `latin` and `tpe`. Default for `latin`: the length of the longest
    axis."""
    n_at_once: PositiveInt | None = None
    """Number of points that `tpe` suggests in a batch, before it knows their results. Default: 4. A larger batch
    occupies more workers, but each suggestion uses fewer results."""
    draw_seed: NonNegativeInt = 0
    """Random seed for drawing points in the modes `random`, `latin` and `tpe`."""
    baseline: dict[str, Any] = {}
    """Baseline that all other variants are compared with, as labels by axis. Default on each axis: the value of the
    base run if it is among the choices, else the first choice."""
    exclude: Annotated[tuple[ExclusionSpec, ...], Strict(False)] = ()
    """Points of the design that are excluded, with reasons."""
    seeds: Seeds = (1, 2, 3)
    """Seeds of each variant: a list, or their number (counted from 1). Seeds can be added later; only new runs are then
    trained."""
    looks: Annotated[tuple[PositiveInt, ...], Strict(False)] = ()
    """Numbers of seeds at which results are looked at, in order, if seeds may be added after results were seen: [5],
    and later [5, 8]. The last is the number of `seeds`. Each look spends two thirds of what the earlier ones have left
    of `alpha`, so all looks together stay below it. Default: one look, which spends all of `alpha`."""
    budget: BudgetSpec | None = None
    """Training budget of each variant. Default: the length of the base run."""
    baseline_lengths: Annotated[tuple[PositiveFloat, ...], Strict(False)] = ()
    """Lengths of additional baseline runs, as multiples of the baseline's own length, such as [0.5, 2]. Each is a
    complete run with its own learning-rate decay, trained with all seeds. They are not ranked: from their final losses
    follows how many steps, tokens, FLOPs and seconds the baseline needs to reach the loss of each variant. With the
    length 1, at least three different lengths are needed. Default: none."""
    match: MatchSpec | None = None
    """Size matching of the variants. Default: off."""
    tune: TuneSpec | None = None
    """Learning rate tuning for each variant. Default: off."""
    halving: HalvingSpec | None = None
    """Successive halving. Default: all variants are trained to the end."""
    metric: str = "val/loss"
    """Metric to compare at the end of a run. Higher is better for metrics that a corpus or a batching declares, such as
    `val/accuracy`, and for `tokens_per_second` and `mfu`; lower is better for losses and others."""
    held_out: Annotated[Any, Reference("corpus")] | None = None
    """Corpus whose validation split is the held-out text of all variants, whatever their own corpora. Needed if an axis
    changes the held-out text, such as an axis over `corpus`. Default: the held-out text of each variant's corpus, which
    must be the same for all."""
    harness: HarnessSpec | None = None
    """Scores on tasks of lm-evaluation-harness, measured with the last weights of each trial and compared besides the
    metric. Needs `gptzoo[lm-eval]`. Default: off."""
    margin: NonNegativeFloat = 0.001
    """Equivalence margin: variants are reported as the same if the confidence interval of their difference lies inside
    it. The default is above rounding errors. 0: only bitwise equal results are the same."""
    alpha: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Family-wise significance level: probability of reporting any difference, over all comparisons, if there is
    none."""
    power: float = Field(default=0.8, gt=0.0, lt=1.0)
    """Statistical power: probability of reporting a true difference of the smallest detectable size."""
    seed_noise: NoiseSpec | None = None
    """Expected variation between seeds, for planning before there are results. After two seeds of a variant, its
    measured variation is used."""
    executor: Annotated[Any, Reference("executor")] = by_default("local")
    """Executor that runs the trials, such as `local`."""
    retries: NonNegativeInt = 1
    """Maximum number of times that a crashed or hung trial is restarted."""
    silence: PositiveFloat | None = 3600.0
    """Seconds without a training step after which a trial counts as hung. Null: no limit."""
    samples: bool = True
    """Generate a text sample at the end of each trial."""

    _folder: Path

    def model_post_init(self, context: Any) -> None:  # noqa: ANN401  pydantic's signature
        self._folder = (context or {}).get("folder", Path.cwd())

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the choices are relative to."""
        return self._folder

    @property
    def level(self) -> float:
        """The significance level of the current look: the part of `alpha` that it spends."""
        return level_of_look(self.alpha, len(self.looks))

    @model_validator(mode="after")
    def _check(self) -> AblationSpec:
        errors = [
            *self._seed_and_axis_problems(),
            *self._length_problems(),
            *self._mode_problems(),
            *self._selection_problems(),
        ]
        if errors:
            raise ValidationError.from_exception_data("AblationSpec", errors)
        return self

    def _seed_and_axis_problems(self) -> Iterator[InitErrorDetails]:
        for name in ("seed", *_LENGTH_FIELDS):
            if name in self.axes:
                advice = "Give seeds." if name == "seed" else "Give a budget; runs of different lengths do not compare."
                yield error_at(f"cannot be an axis. {advice}", "axes", name)
        if self.looks and (list(self.looks) != sorted({*self.looks}) or self.looks[-1] != len(self.seeds)):
            reason = f"expected increasing numbers, of which the last is the number of seeds, {len(self.seeds)}"
            yield error_at(reason, "looks", value=self.looks)

    def _length_problems(self) -> Iterator[InitErrorDetails]:
        lengths = self.baseline_lengths
        if len(set(lengths)) < len(lengths):
            yield error_at("a length appears twice", "baseline_lengths", value=lengths)
        elif lengths and len({1.0, *lengths}) < 3:
            reason = "expected at least two lengths besides 1, so that the loss is known at three. Try [0.5, 2]"
            yield error_at(reason, "baseline_lengths", value=lengths)

    def _mode_problems(self) -> Iterator[InitErrorDetails]:
        if self.mode in ("random", "tpe") and self.n_variants is None:
            yield error_at(f"is required for mode {self.mode}", "n_variants")
        if self.mode not in ("random", "latin", "tpe") and self.n_variants is not None:
            yield error_at(f"is for the modes random, latin and tpe, not for {self.mode}", "n_variants")
        if self.mode != "tpe":
            if self.n_at_once is not None:
                yield error_at(f"is for mode tpe, not for {self.mode}", "n_at_once")
            for name, axis in self.axes.items():
                if axis.low is not None:
                    yield error_at(f"a range is for mode tpe, not for {self.mode}. Give choices.", "axes", name)
        elif self.halving is None:
            reason = 'is required for mode tpe, which uses results of the first rung. Try {"rungs": [0.3]}.'
            yield error_at(reason, "halving")

    def _selection_problems(self) -> Iterator[InitErrorDetails]:
        """Check tuning and halving, which must not select by the seeds that variants are compared with."""
        if self.tune is not None and (shared := sorted({*self.tune.seeds} & {*self.seeds})):
            yield error_at(f"seed {shared[0]} is a seed of the comparison. Choose others.", "tune", "seeds")
        if self.tune is not None and self.tune.field in self.axes:
            yield error_at("is an axis already. Tune the field or compare its values, not both.", "tune", "field")
        if self.halving is None:
            return
        if shared := sorted({*self.halving.seeds} & {*self.seeds}):
            yield error_at(f"seed {shared[0]} is a seed of the comparison. Choose others.", "halving", "seeds")
        if self.tune is not None:
            reason = (
                "cannot be combined with tune, which trains every variant to the end. "
                "Make tune.field an axis and let halving select its value."
            )
            yield error_at(reason, "halving")
