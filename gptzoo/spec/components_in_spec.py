"""The components that a spec names, with their paths in the spec and the plugins that provide them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.strict_model import StrictModel


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
