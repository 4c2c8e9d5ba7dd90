"""Every option changes something."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.errors import SpecError
from gptzoo.reference import Reference
from gptzoo.testing.signature import differ, signature
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed, Skipped


def options(subject: Subject) -> str | None:
    """Every option has another valid value that changes outputs, training, parameters, state, or work done."""
    fields = [name for name in type(subject.config).model_fields if name != "type"]
    if not fields:
        raise Skipped("it has no options")
    others = {name: list(other_values(subject, name)) for name in fields}
    base = signature(subject, subject.config)
    dead = {}
    for name, configs in others.items():
        tried = []
        for value, config in configs:
            if differ(base, signature(subject, config)):
                break
            tried.append(value)
        else:
            if tried and not _shows_beside_another(subject, name, others):
                dead[name] = tried
    if dead:
        told = [
            f"option {name!r} changes nothing: tried {', '.join(map(_show, tried))}" for name, tried in dead.items()
        ]
        raise Failed("; ".join(told))
    if idle := [name for name, configs in others.items() if not configs]:
        return f"not tried, for no other value of theirs is valid here: {', '.join(idle)}"
    return None


def _shows_beside_another(subject: Subject, name: str, others: Mapping[str, Any]) -> bool:
    """An option may need another one to be set before it does anything."""
    for other, configs in others.items():
        if other == name:
            continue
        for value, config in configs[:3]:
            base = signature(subject, config)
            for _, both in itertools.islice(other_values(subject, name, {other: value}), 3):
                if differ(base, signature(subject, both)):
                    return True
    return False


def other_values(subject: Subject, name: str, beside: Mapping[str, Any] = types.MappingProxyType({})) -> Iterator[Any]:
    """Other values of an option that the component accepts, each with the config."""
    field = type(subject.config).model_fields[name]
    here = subject.resolved(subject.configure(**beside))
    current = getattr(subject.config, name)
    tried = []
    for value in _alternatives(_annotation(field), current):
        if value in tried or (value == current and type(value) is type(current)):
            continue
        tried.append(value)
        try:
            config = subject.configure(**{**beside, name: value})
            differs = subject.resolved(config) != here
        except SpecError:
            continue
        if differs:  # an inherited option may have been this all along
            yield value, config


def _alternatives(annotation: Any, current: Any) -> Iterator[Any]:
    """Values near the current one, or typical of the type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        reference = next((note for note in arguments[1:] if isinstance(note, Reference)), None)
        if reference is None:
            yield from _alternatives(arguments[0], current)
        else:
            yield from _components(reference.kind, except_for=_type_of(current))
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _alternatives(argument, current)
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
        yield from _altered(arguments, list(current))


def _components(kind: str, except_for: str | None) -> Iterator[Any]:
    """The registered components of a kind, by name or, where they require options, with some values of those."""
    for name, component in registry.current().of_kind(kind).items():
        fields = component.Config.model_fields
        required = [option for option, field in fields.items() if field.is_required()]
        if name == except_for:
            continue
        if not required:
            yield name
        typical = (_alternatives(_annotation(fields[option]), None) for option in required)
        for values in zip(*typical, strict=False):
            yield {"type": name, **dict(zip(required, values, strict=True))}


def _annotation(field: Any) -> Any:
    """The annotation of a field as it was written."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _altered(arguments: tuple[Any, ...], items: list[Any]) -> Iterator[Any]:
    """A sequence with one item changed, or the last left out."""
    for index, item in enumerate(items):
        annotation = arguments[min(index, len(arguments) - 1)]
        annotation = arguments[0] if annotation is Ellipsis else annotation
        for other in itertools.islice(_alternatives(annotation, item), 4):
            yield [_plain(one) for one in [*items[:index], other, *items[index + 1 :]]]
    yield [_plain(one) for one in items[:-1]]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Config) else value


def _type_of(value: Any) -> str | None:
    return value.type if isinstance(value, Config) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
