"""The settings that the components of a variant recommend: those that its axes take along, and those it leaves out."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gptzoo.ablation.design.axes import Choice
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.errors import SpecError
from gptzoo.spec.components_in_spec import components_in, is_equal, recommendations_in, value_at
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.overrides import set_field
from gptzoo.spec.run import RunSpec
from gptzoo.spec.strict_json import Json

S = TypeVar("S", bound=RunSpec | ModelSpec)


def take_along(
    reader: SpecReader, spec: S, data: dict[str, Any], base: S, choices: Iterable[Choice], along: Iterable[Choice]
) -> tuple[S, list[str]]:
    """Return the spec with the settings that the components in the choices `along` recommend, and their descriptions.

    A component of the base recommends nothing, because the base has what suits it. A setting that one of the `choices`
    gives is kept, and so is the first of several different values. A field that the spec has not is left out.

    spec: the variant, whose JSON is `data`.
    """
    recommendations = recommendations_in(spec)
    if not recommendations:
        return spec, []
    model, own = type(spec), _component_types(base)
    chosen = [f"$.{path}" for choice in along for path in choice.fields]
    given = [path for choice in choices for path in choice.fields]
    taken: dict[str, str] = {}
    for recommendation in recommendations:
        path, field = recommendation.path, recommendation.setting.field
        local = _in_spec(field, is_run=isinstance(spec, RunSpec))
        if (
            (_without_indices(path), recommendation.type) in own
            or not any(path == of or path.startswith((f"{of}.", f"{of}[")) for of in chosen)
            or local is None
            or local in taken
            or _is_given(local, given, data)
        ):
            continue
        value = _recommended_value(recommendation.setting.value, recommendation.setting.factor, base, local)
        changed = copy.deepcopy(data)
        try:
            set_field(model, changed, local.split("."), value)
            spec = reader.read(model, changed)
        except SpecError:
            continue
        data = changed
        taken[local] = str(recommendation)
    return spec, list(taken.values())


def left_out(run: RunSpec, base: RunSpec, tuned: str | None) -> list[str]:
    """Return the recommended settings that a variant has not, each with the value that it has.

    tuned: the field that every variant tunes, which is no fixed setting.
    """
    own, of_base = _component_types(base), base.resolved()
    missing = []
    for recommendation in recommendations_in(run):
        setting, current = recommendation.setting, recommendation.current
        is_met = recommendation.is_met
        if is_met is None:  # a factor on what suits the base
            is_own = (_without_indices(recommendation.path), recommendation.type) in own
            is_met = is_own or not is_equal(current, value_at(of_base, setting.field))
        if not is_met and setting.field != tuned:
            part = f"{recommendation.kind} {recommendation.type!r}"
            missing.append(f"{part} recommends {recommendation.wanted}, {recommendation.has}")
    return missing


def _component_types(spec: RunSpec | ModelSpec) -> set[tuple[str, str]]:
    return {(_without_indices(part.path), part.config.type) for part in components_in(spec)}


def _without_indices(path: str) -> str:
    """Remove the indices of layers: the components of a layer and of all layers have the same place."""
    return re.sub(r"\[\d+\]", "", path)


def _in_spec(field: str, *, is_run: bool) -> str | None:
    """Return the path of a run's field in a run spec or a model spec, or None if it has none."""
    if is_run:
        return field
    return field.removeprefix("model.") if field.startswith("model.") else None


def _is_given(field: str, given: Iterable[str], data: Mapping[str, Any]) -> bool:
    """Return True if one of the `given` fields sets this one, as itself or as an option of a component."""
    return any(field == path or (field.startswith(f"{path}.") and value_at(data, field) is not None) for path in given)


def _recommended_value(value: Json, factor: float | None, base: RunSpec | ModelSpec, field: str) -> Json:
    """Return the value to set."""
    current = value_at(base.resolved(), field)
    return factor * current if factor is not None and isinstance(current, int | float) else value
