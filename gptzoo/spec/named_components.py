"""Which components a spec names, where, and who brought each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gptzoo import registry
from gptzoo.component import Config, SpecModel


@dataclass(frozen=True)
class NamedPart:
    """One component of a spec, at `path` (`$.ffn.activation`)."""

    path: str
    config: Config

    @property
    def origin(self) -> registry.Origin:
        return registry.current().origin(self.config.component)

    def as_dict(self) -> dict[str, Any]:
        options = self.config.model_dump(mode="json", exclude={"type"})
        kind, origin = self.config.component.kind, str(self.origin)
        return {"path": self.path, "kind": kind, "type": self.config.type, "options": options, "origin": origin}


def named_parts(value: Any, path: str = "$") -> Iterator[NamedPart]:
    """Every component in a spec, those nested in others after the one that holds them."""
    if isinstance(value, Config):
        yield NamedPart(path, value)
    if isinstance(value, SpecModel):
        for name in type(value).model_fields:
            yield from named_parts(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from named_parts(item, f"{path}[{index}]")
