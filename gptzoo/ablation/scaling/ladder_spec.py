"""`LadderSpec`, the spec of a scaling ladder: a base run and its variants, trained at several sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, Strict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from gptzoo.reference import Reference, by_default
from gptzoo.spec.ablation import RunJson, Seeds
from gptzoo.spec.ablation_fairness import GridSpec
from gptzoo.spec.files import Source, load_with_base
from gptzoo.spec.schema import allow_path, file_schema
from gptzoo.strict_model import StrictModel, error_at

BASELINE = "baseline"


class SizeRule(StrictModel):
    """The rule that maps a number of layers to all that depends on the size of a model.

    N stands for n_layers x d_model², which is proportional to the parameters without embeddings.
    """

    width_per_layer: PositiveInt
    """`d_model` for each layer, rounded to a multiple of `head_width`."""
    head_width: PositiveInt
    """Width of an attention head. `n_heads` is `d_model` divided by it."""
    tokens_per_parameter: PositiveFloat = 20.0
    """Training tokens for each parameter without embeddings, the same for all sizes and variants. Default: 20
    (Chinchilla)."""
    batch_exponent: float = Field(default=0.0, ge=0.0, le=1.0)
    """The batch size grows with N to this power, from that of the base run at the smallest size. Default: the same
    batch size at all sizes."""
    learning_rate_exponent: float = Field(default=-0.25, ge=-2.0, le=0.0)
    """The learning rate falls with N to this power, from that of the base run or the variant at the smallest size.
    Default: -0.25, which is -0.125 over compute (DeepSeek LLM)."""


class LadderTuneSpec(GridSpec):
    """Learning rate tuning for every variant, the baseline included."""

    n_sizes: PositiveInt | None = None
    """Number of the smallest sizes at which every variant is tuned. At the others, its value by the rule is multiplied
    by the geometric mean of the factors that it chose there. Default: all sizes."""


class LadderSpec(StrictModel):
    """The spec of a scaling ladder."""

    spec_version: Literal[1] = 1
    """Version of the spec format."""
    name: str = "ladder"
    """Name of the ladder in tables and reports."""
    base: RunJson
    """The run at the smallest size, with its learning rate and batch size: an inline run spec, or the path of one
    relative to this file. The rule replaces its width, depth, heads and length."""
    variants: dict[str, dict[str, Any]] = Field(min_length=1)
    """Variants of the base by name, each an object of run fields: {"sandwich": {"model.norm": "sandwich"}}. The base
    itself is the baseline."""
    sizes: Annotated[tuple[PositiveInt, ...], Strict(False)] = Field(min_length=2)
    """Numbers of layers of the sizes, in increasing order. Larger sizes can be added later; only new runs are then
    trained."""
    rule: SizeRule
    """The rule that maps a size to width, heads, batch size, learning rate and length."""
    n_held_out: NonNegativeInt = 0
    """Number of the largest sizes that the laws are not fitted to. They are predicted, and the result says how far off
    the prediction was."""
    extrapolate: Annotated[tuple[Annotated[float, Field(gt=1.0)], ...], Strict(False)] = (10.0,)
    """Extrapolations, as multiples of the largest fitted training compute, each above 1."""
    seeds: Seeds = (1, 2, 3)
    """Seeds of each variant at each size: a list, or their number (counted from 1). At least two."""
    tune: LadderTuneSpec | None = None
    """Learning rate tuning for each variant, the baseline included, at each size or at the smallest ones. Default: off;
    all variants follow the rule."""
    metric: Literal["val/loss", "val/bits_per_byte"] = "val/loss"
    """Metric that the laws describe."""
    executor: Annotated[Any, Reference("executor")] = by_default("local")
    """Executor that runs the trials, such as `local`."""

    _folder: Path

    def model_post_init(self, context: Any) -> None:  # noqa: ANN401  pydantic's signature
        self._folder = (context or {}).get("folder", Path.cwd())

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the variants are relative to."""
        return self._folder

    @model_validator(mode="after")
    def _check(self) -> LadderSpec:
        if errors := list(self._problems()):
            raise ValidationError.from_exception_data("LadderSpec", errors)
        return self

    def _problems(self) -> Iterator[InitErrorDetails]:
        if BASELINE in self.variants:
            yield error_at("is the name of the base itself. Choose another name.", "variants", BASELINE)
        set_by_rule = {"model.n_layers", "model.d_model", "model.n_heads", "batch_size", "steps", "tokens", "epochs"}
        for name, fields in self.variants.items():
            if given := sorted(set_by_rule & fields.keys()):
                yield error_at(f"{given[0]} is set by the rule. Remove it.", "variants", name)
        if list(self.sizes) != sorted({*self.sizes}):
            yield error_at("expected increasing numbers of layers", "sizes", value=self.sizes)
        if len(self.seeds) < 2:
            yield error_at("expected at least two different seeds, which show the noise", "seeds", value=self.seeds)
        if self.n_held_out > len(self.sizes) - 2:
            yield error_at(f"leaves fewer than two of {len(self.sizes)} sizes", "n_held_out", value=self.n_held_out)
        if self.tune is not None and (shared := sorted({*self.tune.seeds} & {*self.seeds})):
            yield error_at(f"seed {shared[0]} is a seed of the ladder. Choose others.", "tune", "seeds")
        n_tuned = None if self.tune is None else self.tune.n_sizes
        if n_tuned is not None and n_tuned > len(self.sizes):
            yield error_at(f"there are {len(self.sizes)} sizes", "tune", "n_sizes", value=n_tuned)


def load_ladder_spec(source: Source, overrides: Iterable[str] = ()) -> LadderSpec:
    """Load a ladder spec from a file or a dict. Raises SpecError."""
    return load_with_base(LadderSpec, "ladder", source, overrides)


def ladder_schema() -> dict[str, Any]:
    """Return the schema of a ladder spec file, in which `base` may be a path."""
    return allow_path(file_schema(LadderSpec), "base", "Path of a run spec, relative to this file.")
