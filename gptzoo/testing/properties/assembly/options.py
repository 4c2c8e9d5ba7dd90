"""Options: every option changes something."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from gptzoo.component import Config
from gptzoo.errors import SpecError
from gptzoo.reference import Reference
from gptzoo.testing.behaviour import behaviours_differ, observe_behaviour
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.partners import components_to_try
from gptzoo.testing.verdict import Failed, Skipped

Candidate = tuple[object, Config]  # another value of an option, and the config with it


def check_options(subject: ComponentUnderTest) -> str | None:
    """Check that every option has another valid value that changes outputs, training, weights, state or operations."""
    names = [name for name in type(subject.config).model_fields if name != "type"]
    if not names:
        raise Skipped("it has no options")
    candidates = {name: list(other_values(subject, name)) for name in names}
    base = observe_behaviour(subject, subject.config)
    without_effect = {}
    for name, name_candidates in candidates.items():
        tried = []
        for value, config in name_candidates:
            if behaviours_differ(base, observe_behaviour(subject, config)):
                break
            tried.append(value)
        else:
            if tried and not _has_effect_with_another_option(subject, name, candidates):
                without_effect[name] = tried
    if without_effect:
        findings = [
            f"option {name!r} changes nothing: tried {', '.join(map(_show, tried))}"
            for name, tried in without_effect.items()
        ]
        raise Failed("; ".join(findings))
    if untried := [name for name, name_candidates in candidates.items() if not name_candidates]:
        return f"not tried, because no other value is valid here: {', '.join(untried)}"
    return None


def _has_effect_with_another_option(
    subject: ComponentUnderTest, name: str, candidates: Mapping[str, Sequence[Candidate]]
) -> bool:
    """Return True if the option changes something once another option has another value."""
    for other, other_candidates in candidates.items():
        if other == name:
            continue
        for value, config in other_candidates[:3]:
            base = observe_behaviour(subject, config)
            for _, config_with_both in itertools.islice(other_values(subject, name, {other: value}), 3):
                if behaviours_differ(base, observe_behaviour(subject, config_with_both)):
                    return True
    return False


def other_values(
    subject: ComponentUnderTest, name: str, changes: Mapping[str, object] = types.MappingProxyType({})
) -> Iterator[Candidate]:
    """Yield other values of an option that the component accepts, each with the config that has it.

    changes: values of other options, for all of these configs.
    """
    field = type(subject.config).model_fields[name]
    base = subject.resolve(subject.configure(**changes))
    current = getattr(subject.config, name)
    tried: list[object] = []
    for value in _alternatives(_annotation(field), current):
        if value in tried or (value == current and type(value) is type(current)):
            continue
        tried.append(value)
        try:
            config = subject.configure(**{**changes, name: value})
            differs = subject.resolve(config) != base
        except SpecError:
            continue
        if differs:  # an inherited option may already have this value
            yield value, config


def _alternatives(annotation: object, current: Any, outer: frozenset[str] = frozenset()) -> Iterator[Any]:  # noqa: ANN401  an option has any type
    """Yield values of a type: those near the current one, then typical ones.

    outer: the kinds of the components around this option whose required options are being filled in.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        reference = next((note for note in arguments[1:] if isinstance(note, Reference)), None)
        if reference is None:
            yield from _alternatives(arguments[0], current, outer)
        else:
            current_type = current.type if isinstance(current, Config) else current
            yield from _components(reference.kind, current_type, outer)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _alternatives(argument, current, outer)
    elif origin is Literal:
        yield from arguments
    elif annotation is type(None):
        yield None
    elif annotation is bool:
        yield from (True, False)
    elif annotation is int:
        near = [current + 1, current - 1, 2 * current, current // 2] if _is_number(current) else []
        yield from map(int, [*near, 1, 2, 3, 4, 8, 0])
    elif annotation is float:
        near = [2 * current, current / 2, current + 0.1, current - 0.1] if _is_number(current) else []
        yield from map(float, [*near, 0.3, 0.0, 0.5, 1.0, 2.0, 10.0])
    elif origin in (tuple, list) and current:
        yield from _changed_sequences(arguments, list(current))


def _components(kind: str, except_for: str | None, outer: frozenset[str]) -> Iterator[str | dict[str, object]]:
    """Yield the registered components of a kind: by name or, if they require options, with values for those.

    A component that requires others of its kind, such as a corpus of corpora, gets only such that require nothing.
    """
    for name, component in components_to_try(kind).items():
        fields = component.Config.model_fields
        required = [option for option, field in fields.items() if field.is_required()]
        if name == except_for or (required and kind in outer):
            continue
        if not required:
            yield name
        alternatives = (_alternatives(_annotation(fields[option]), None, outer | {kind}) for option in required)
        for values in zip(*alternatives, strict=False):
            yield {"type": name, **dict(zip(required, values, strict=True))}


def _annotation(field: FieldInfo) -> object:
    """Return the annotation of a field as it was written, with its metadata."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _changed_sequences(arguments: tuple[object, ...], items: list[object]) -> Iterator[list[object]]:
    """Yield copies of a sequence with one item changed, then one without the last item."""
    for index, item in enumerate(items):
        annotation = arguments[min(index, len(arguments) - 1)]
        annotation = arguments[0] if annotation is Ellipsis else annotation
        for other in itertools.islice(_alternatives(annotation, item), 4):
            yield [_as_json(item) for item in [*items[:index], other, *items[index + 1 :]]]
    yield [_as_json(item) for item in items[:-1]]


def _as_json(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Config) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
