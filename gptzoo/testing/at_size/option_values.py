"""Values of an option, derived from its type and bounds: edge values for the plan, and a hypothesis strategy."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MultipleOf
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from gptzoo.component import Component, Config
from gptzoo.reference import Reference
from gptzoo.strict_model import StrictModel
from gptzoo.testing.partners import components_to_try, has_required_options

EDGE_INTEGERS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129)
_MAX_INTEGER = 160
_EDGE_FACTORS = (0.5, 2.0, 0.1, 10.0, 100.0, 1.5, 0.01)  # of a float's default
_PROBABILITIES = (0.1, 0.5, 0.9)
_MAX_DEPTH = 2  # of components in components

Json = Any  # a value as it stands in a spec


def edge_values(field: FieldInfo) -> list[Json]:
    """Return the values of an option that the plan tries, without its default. Validators may still refuse some."""
    values: list[Json] = []
    for value in _edges(_annotation(field), (), field.default, _inherits_dropout(field)):
        if not any(value == other and type(value) is type(other) for other in values) and value != field.default:
            values.append(value)
    return values


def option_strategy(field: FieldInfo, depth: int = 0) -> st.SearchStrategy[Json] | None:
    """Return a strategy for the values of an option, or None for a type without one."""
    return _strategy(_annotation(field), (), field.default, _inherits_dropout(field), depth)


def options_strategy(config: type[StrictModel], depth: int = 0) -> st.SearchStrategy[dict[str, Json]]:
    """Return a strategy for some options of a config, as JSON. Required options are always given."""
    required: dict[str, st.SearchStrategy[Json]] = {}
    optional: dict[str, st.SearchStrategy[Json]] = {}
    for name, field in config.model_fields.items():
        if name == "type" or (strategy := option_strategy(field, depth)) is None:
            continue
        (required if field.is_required() else optional)[name] = strategy
    return st.fixed_dictionaries(required, optional=optional)


def _annotation(field: FieldInfo) -> object:
    """Return the annotation of a field as it was written, with its metadata."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _inherits_dropout(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("inherits") == "dropout"


class _Bounds:
    """The bounds of a number, from the metadata of its annotation."""

    def __init__(self, metadata: tuple[object, ...]):
        self.low, self.high, self.low_open, self.high_open, self.step = None, None, False, False, 1
        for note in (part for item in metadata for part in (getattr(item, "metadata", None) or [item])):
            if isinstance(note, Ge | Gt):
                self.low, self.low_open = (note.ge, False) if isinstance(note, Ge) else (note.gt, True)
            elif isinstance(note, Le | Lt):
                self.high, self.high_open = (note.le, False) if isinstance(note, Le) else (note.lt, True)
            elif isinstance(note, MultipleOf):
                self.step = note.multiple_of

    low: Any
    high: Any
    step: Any

    def allow(self, value: float) -> bool:
        """Return True if a number is within the bounds."""
        above = self.low is None or value > self.low or (value == self.low and not self.low_open)
        below = self.high is None or value < self.high or (value == self.high and not self.high_open)
        return above and below and (self.step == 1 or value % self.step == 0)


def _edges(annotation: object, metadata: tuple[object, ...], default: Json, is_dropout: bool) -> Iterator[Json]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        reference = next((note for note in arguments[1:] if isinstance(note, Reference)), None)
        if reference is None:
            yield from _edges(arguments[0], (*metadata, *arguments[1:]), default, is_dropout)
        else:
            yield from (name for name, component in _components(reference) if not has_required_options(component))
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _edges(argument, metadata, default, is_dropout)
    elif annotation is int:
        bounds = _Bounds(metadata)
        near = [2 * default, default + 1, default - 1] if _is_number(default) else []
        yield from (value for value in (*near, *EDGE_INTEGERS) if bounds.allow(value))
    elif annotation is float:
        yield from _edge_floats(_Bounds(metadata), default, is_dropout)
    elif origin in (tuple, list) and isinstance(default, tuple | list) and default:
        yield from _changed_items(arguments, [_as_json(item) for item in default])
    else:
        yield from _choices(annotation) or ()


def _edge_floats(bounds: _Bounds, default: Json, is_dropout: bool) -> Iterator[float]:
    if is_dropout:
        yield from (0.1, 0.5)
    elif bounds.low is not None and bounds.high is not None:
        between = (bounds.low + share * (bounds.high - bounds.low) for share in (0.1, 0.5, 0.9, 0.0, 1.0))
        yield from (float(value) for value in between if bounds.allow(value))
    else:
        base = default if _is_number(default) and default else 1.0
        yield from (value for factor in _EDGE_FACTORS if bounds.allow(value := float(base * factor)))


def _choices(annotation: object) -> list[Json] | None:
    """Return the values of a type that has few, or None."""
    if annotation is bool:
        return [False, True]
    if annotation is type(None):
        return [None]
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [member.value for member in annotation]
    return None


def _changed_items(arguments: tuple[object, ...], items: list[Json]) -> Iterator[list[Json]]:
    """Yield copies of a sequence with one item changed."""
    for index, item in enumerate(items):
        annotation = arguments[min(index, len(arguments) - 1)]
        annotation = arguments[0] if annotation is Ellipsis else annotation
        for other in itertools.islice(_edges(annotation, (), item, False), 3):
            yield [*items[:index], other, *items[index + 1 :]]


def _strategy(
    annotation: object, metadata: tuple[object, ...], default: Json, is_dropout: bool, depth: int
) -> st.SearchStrategy[Json] | None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        reference = next((note for note in arguments[1:] if isinstance(note, Reference)), None)
        if reference is not None:
            return _component_strategy(reference, depth)
        return _strategy(arguments[0], (*metadata, *arguments[1:]), default, is_dropout, depth)
    if origin in (Union, types.UnionType):
        parts = [_strategy(argument, metadata, default, is_dropout, depth) for argument in arguments]
        known = [part for part in parts if part is not None]
        return st.one_of(known) if known else None
    if annotation is int:
        return _integers(_Bounds(metadata), default)
    if annotation is float:
        return _floats(_Bounds(metadata), default, is_dropout)
    if origin is tuple and Ellipsis not in arguments:
        items = [_strategy(argument, (), None, False, depth) for argument in arguments]
        known = [item for item in items if item is not None]
        return st.tuples(*known).map(list) if len(known) == len(items) else None
    if origin in (tuple, list):
        item = _strategy(arguments[0], (), None, False, depth)
        return None if item is None else st.lists(item, min_size=1, max_size=3)
    if (choices := _choices(annotation)) is not None:
        return st.sampled_from(choices)
    if isinstance(annotation, type) and issubclass(annotation, StrictModel) and depth < _MAX_DEPTH:
        return options_strategy(annotation, depth + 1)
    return None


def _integers(bounds: _Bounds, default: Json) -> st.SearchStrategy[int] | None:
    low = 0 if bounds.low is None else int(bounds.low) + bounds.low_open
    high = max(_MAX_INTEGER, 2 * default if _is_number(default) else 0)
    if bounds.high is not None:
        high = min(high, int(bounds.high) - bounds.high_open)
    edges = [value for value in EDGE_INTEGERS if low <= value <= high and bounds.allow(value)]
    first = -(-low // bounds.step)
    if first > high // bounds.step:
        return None
    any_integer = st.integers(first, high // bounds.step).map(lambda value: value * bounds.step)
    return any_integer | st.sampled_from(edges) if edges else any_integer


def _floats(bounds: _Bounds, default: Json, is_dropout: bool) -> st.SearchStrategy[float]:
    if is_dropout:
        return st.sampled_from([0.0, *_PROBABILITIES])
    base = abs(default) if _is_number(default) and default else 1.0
    low = base / 100 if bounds.low is None or bounds.low < base / 100 else bounds.low
    high = base * 100 if bounds.high is None or bounds.high > base * 100 else bounds.high
    return st.floats(
        low,
        high,
        exclude_min=low == bounds.low and bounds.low_open,
        exclude_max=high == bounds.high and bounds.high_open,
    )


def _component_strategy(reference: Reference, depth: int) -> st.SearchStrategy[Json] | None:
    """Return a strategy for a component of a kind: its name, or its name with some options."""
    known = _components(reference)
    names = [name for name, component in known if not has_required_options(component)]
    parts: list[st.SearchStrategy[Json]] = [st.sampled_from(names)] if names else []
    if depth < _MAX_DEPTH:
        for name, component in known:
            options = options_strategy(component.Config, depth + 1)
            parts.append(options.map(lambda options, name=name: {"type": name, **options}))  # type: ignore[misc]
    return st.one_of(parts) if parts else None


def _components(reference: Reference) -> list[tuple[str, type[Component]]]:
    return list(components_to_try(reference.kind).items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_json(value: object) -> Json:
    return value.model_dump(mode="json") if isinstance(value, Config) else value
