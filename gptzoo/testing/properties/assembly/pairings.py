"""Beside every other part that is registered, it works, or the pair is refused with a reason that names both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gptzoo import registry
from gptzoo.component import Component
from gptzoo.errors import SpecError
from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.subject import PartSubject
from gptzoo.testing.verdict import Failed

KINDS = ("activation", "attention", "ffn", "norm", "norm_layer", "positional")
LENGTH = 6


def partners(subject: PartSubject) -> str | None:
    """Beside one part of each other kind it builds, learns and decodes, or is refused with a reason that names both."""
    chosen: dict[str, Any] = {}
    for kind, name, place in _partners(subject):
        if chosen.get(kind, (name,))[0] in _USUAL:  # the tests of other properties have the usual ones beside it
            chosen[kind] = name, place
    return _together(subject, [(kind, *pair) for kind, pair in chosen.items()])


def all_partners(subject: PartSubject) -> str | None:
    """The same beside every part of each other kind that is registered and needs no options."""
    return _together(subject, list(_partners(subject)))


_USUAL = ("sdpa", "rope", "learned", "pre_ln", "layernorm", "gelu", "mlp")


def _together(subject: PartSubject, pairs: list[tuple[str, str, dict[str, Any]]]) -> str | None:
    refused = []
    for kind, name, place in pairs:
        beside = f"{kind} {name!r}"
        try:
            subject.spec(**place)
        except SpecError as error:
            if name not in str(error) or subject.component.name not in str(error):
                raise Failed(f"beside {beside} it is refused by a reason that does not name both: {error}") from None
            refused.append(beside)
            continue
        try:
            _works(subject, place)
        except Failed as finding:
            raise Failed(f"beside {beside} {finding}") from None
        except Exception as error:
            raise Failed(f"beside {beside} it raises {type(error).__name__}: {error}") from error
    return f"refused, with reason: {', '.join(refused)}" if refused else None


def _works(subject: PartSubject, place: dict[str, Any]) -> None:
    model, tokens = subject.model(dtype=torch.float64, **place), subject.tokens(2, LENGTH)
    loss = model.train()(tokens, tokens)[1]
    loss.backward()
    if not loss.isfinite():
        raise Failed(f"the loss is {loss.item()}")
    with torch.no_grad():
        full = model.eval()(tokens)[0]
    if model.required_inputs:
        return
    sizes = [3, 1, 2]
    difference = distance(decode(model, tokens, sizes), full).max()
    if difference > CLOSE:
        raise Failed(f"{LENGTH} tokens fed as {sizes} give other logits than in one forward, off by {difference:.2g}")


def _partners(subject: PartSubject) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every component of another kind that needs no options: its kind, its name, and the fields that put it there."""
    for kind in KINDS:
        if kind == subject.kind:
            continue
        for name, component in registry.current().of_kind(kind).items():
            if not _needs_options(component) and (place := _place(subject, kind, name)):
                yield kind, name, place


def _place(subject: PartSubject, kind: str, name: str) -> dict[str, Any] | None:
    """The field of the model that takes the partner; None where it would push the component out of its place."""
    if kind == "norm_layer":
        if subject.kind != "norm":
            return {"norm": {"type": "pre_ln", "layer": name}}
        return {"norm": subject.configure(layer=name)} if "layer" in type(subject.config).model_fields else None
    if subject.kind == "norm_layer" and kind == "norm":
        takes_layer = "layer" in registry.current().get("norm", name).Config.model_fields
        return {"norm": {"type": name, "layer": subject.config}} if takes_layer else None
    if subject.kind == "activation" and kind == "ffn":
        return {"ffn": name, "activation": subject.config}
    return {kind: name}


def _needs_options(component: type[Component]) -> bool:
    return any(field.is_required() for field in component.Config.model_fields.values())
