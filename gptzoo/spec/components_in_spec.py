"""The components that a spec names: their paths in the spec, the plugins that provide them, and what they recommend."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gptzoo import registry
from gptzoo.component import Config, Recommended
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import StrictModel

_CONTAINERS = (StrictModel, tuple, list)  # of components


@dataclass(frozen=True)
class SpecComponent:
    """One component of a spec, at `path` (such as `$.ffn.activation`)."""

    path: str
    config: Config

    @property
    def origin(self) -> registry.Origin:
        """The plugin that provides the component."""
        return registry.current().origin(self.config.component)

    def as_dict(self) -> dict[str, Any]:
        """Return the component as JSON, with its kind, options and origin."""
        options = self.config.model_dump(mode="json", exclude={"type"})
        kind, origin = self.config.component.kind, str(self.origin)
        return {"path": self.path, "kind": kind, "type": self.config.type, "options": options, "origin": origin}


def components_in(value: object, path: str = "$") -> Iterator[SpecComponent]:
    """Yield all components in a spec. A nested component comes after the one that contains it."""
    if isinstance(value, Config):
        yield SpecComponent(path, value)
    if isinstance(value, StrictModel):
        for name in type(value).model_fields:
            yield from components_in(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from components_in(item, f"{path}[{index}]")


@dataclass(frozen=True)
class Recommendation:
    """A setting that a component of a spec recommends, and the value that the spec has."""

    path: str  # of the component in the spec
    kind: str
    type: str
    setting: Recommended
    current: object = None  # None if the spec has no such field
    is_met: bool | None = None  # None if the spec alone does not show it: a factor, or a field outside of a model spec

    @property
    def wanted(self) -> str:
        """The field and its recommended value: "model.architecture.embed_scale 50"."""
        factor = self.setting.factor
        return f"{self.setting.field} {_text(self.setting.value) if factor is None else f'times {factor:g}'}"

    @property
    def has(self) -> str:
        """The value that the spec has, as the rest of a sentence: "but it is 1"."""
        return "which this model cannot set" if self.current is None else f"but it is {_text(self.current)}"

    def __str__(self) -> str:
        """Describe it: "norm 'sandwich' with model.architecture.embed_scale 50 (SOURCE)"."""
        return f"{self.kind} {self.type!r} with {self.wanted} ({self.setting.source})"

    def as_dict(self) -> dict[str, Any]:
        """Return the recommendation as JSON."""
        setting = self.setting
        place = {"path": self.path, "kind": self.kind, "type": self.type, "field": setting.field}
        values = {"value": setting.value, "factor": setting.factor, "current": self.current, "is_met": self.is_met}
        return {**place, **values, "source": setting.source}


def recommendations_in(spec: RunSpec | ModelSpec) -> list[Recommendation]:
    """Return the settings that the components of a spec recommend, each once."""
    if not _has_recommendations(spec):
        return []
    resolved = spec.resolved()
    run = resolved if isinstance(spec, RunSpec) else {"model": resolved}
    found: dict[tuple[object, ...], Recommendation] = {}
    for part in components_in(spec):
        kind = part.config.component.kind
        for setting in part.config.recommended(run["model"]):
            current = value_at(run, setting.field)
            is_known = setting.factor is None and setting.field.partition(".")[0] in run
            is_met = is_equal(current, setting.value) if is_known else None
            key = (kind, part.config.type, setting.field, json.dumps([setting.value, setting.factor]))
            found.setdefault(key, Recommendation(part.path, kind, part.config.type, setting, current, is_met))
    return list(found.values())


def _has_recommendations(value: object) -> bool:
    """Return True if a component in a spec may recommend something. Most do not, and this is quick to find out."""
    if isinstance(value, StrictModel):
        if isinstance(value, Config) and type(value).recommended is not Config.recommended:
            return True
        value = tuple(value.__dict__.values())  # of the fields
    assert isinstance(value, tuple | list)
    return any(_has_recommendations(item) for item in value if isinstance(item, _CONTAINERS))


def value_at(data: object, field: str) -> object:
    """Return the value of a field such as `model.architecture.embed_scale` in JSON, or None if there is none."""
    for name in field.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def is_equal(a: object, b: object) -> bool:
    """Compare two JSON values, numbers up to rounding."""
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
