"""Partners: components of other kinds in the model of a component under test, and the fields that add them."""

from __future__ import annotations

from typing import Any

from gptzoo import registry
from gptzoo.component import Component, Config
from gptzoo.testing.component_under_test import ModelPartUnderTest


def model_fields(subject: ModelPartUnderTest, kind: str, name: str, config: Config) -> dict[str, Any] | None:
    """Return the model fields that add the other part, or None if it would displace the component under test.

    config: of the component under test.
    """
    if kind == "norm_layer":
        if subject.kind != "norm":
            return {"norm": {"type": "pre_ln", "layer": name}}
        return {"norm": subject.configure(layer=name)} if "layer" in type(config).model_fields else None
    if subject.kind == "norm_layer" and kind == "norm":
        takes_layer = "layer" in registry.current().get("norm", name).Config.model_fields
        return {"norm": {"type": name, "layer": config}} if takes_layer else None
    if subject.kind == "activation" and kind == "ffn":
        return {"ffn": name, "activation": config}
    return {kind: name}


def components_to_try(kind: str) -> dict[str, type[Component]]:
    """Return the registered components that can be the value of an option: no corpora that download or have samples."""
    known = registry.current().of_kind(kind)
    return {
        name: component
        for name, component in known.items()
        if not getattr(component, "downloads", False) and getattr(component, "provides", "documents") == "documents"
    }


def has_required_options(component: type[Component]) -> bool:
    return any(field.is_required() for field in component.Config.model_fields.values())
