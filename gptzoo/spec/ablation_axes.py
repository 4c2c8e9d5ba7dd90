"""The axes of an ablation, and the points of its design that are excluded."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Strict, ValidationError, model_validator

from gptzoo.strict_model import StrictModel, error_at


class AxisSpec(StrictModel):
    """The choices of one axis. A list, or "*", is short for `choices`."""

    choices: Literal["*"] | Annotated[tuple[Any, ...], Strict(False)] | dict[str, Any] | None = None
    """Values of the field: a list, or an object with a label for each value. "*" stands for all registered components
    of the field's kind. For an axis over several fields, each value is an object of fields: {"swiglu": {"model.ffn":
    "glu", "model.activation": "silu"}}."""
    low: int | float | None = None
    """Lower end of a range of values, an alternative to `choices` (mode `tpe` only). If both ends are integers,
    integers are drawn."""
    high: int | float | None = None
    """Upper end of the range, included."""
    log: bool = False
    """Draw from the range uniformly in the logarithm. Default: uniformly in the value."""
    when: dict[str, Any] = {}
    """Condition under which this axis applies, as labels of other axes: {"model.attention": ["sdpa"]}. Default:
    always."""

    recommended: bool | None = None
    """Take along the settings that the chosen components recommend, such as the scale of the initial embeddings. The
    plan shows them for each variant. What a choice sets itself is kept, and what belongs to a component of the base.
    Default: true, except in a folder whose ablation was started before this option existed."""

    @model_validator(mode="after")
    def _check(self) -> AxisSpec:
        errors = []
        if self.low is None and self.high is None:
            if not self.choices:
                errors.append(error_at("an axis needs at least one choice", "choices"))
            if self.log:
                errors.append(error_at("requires a range. Give low and high.", "log"))
        elif self.choices is not None or self.low is None or self.high is None:
            errors.append(error_at("an axis needs either choices, or a range with low and high"))
        elif self.low >= self.high:
            errors.append(error_at(f"must be above low {self.low}, got {self.high}", "high"))
        elif self.log and self.low <= 0:
            errors.append(error_at(f"must be above 0 if log is true, got {self.low}", "low"))
        if errors:
            raise ValidationError.from_exception_data("AxisSpec", errors)
        return self


def _expand_axis(value: object) -> object:
    return {"choices": value} if isinstance(value, list | tuple) or value == "*" else value


Axis = Annotated[AxisSpec, BeforeValidator(_expand_axis, json_schema_input_type=AxisSpec | list[Any] | Literal["*"])]


class ExclusionSpec(StrictModel):
    """Points of the design that are excluded."""

    when: dict[str, Any] = Field(min_length=1)
    """Labels by axis: one label or a list of them. A point is excluded if it has one of the labels on every axis."""
    because: str = ""
    """Reason for the exclusion, printed in the plan and the report."""
