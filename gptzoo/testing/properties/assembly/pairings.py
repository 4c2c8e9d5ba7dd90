"""Pairings: the component works with every other registered part, or the pair is rejected with a clear reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from gptzoo import registry
from gptzoo.errors import SpecError
from gptzoo.testing.compare import TOLERANCE, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.partners import has_required_options, model_fields
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.verdict import Failed

_KINDS = ("activation", "attention", "ffn", "norm", "norm_layer", "positional")
_DEFAULT_PARTS = ("sdpa", "rope", "learned", "pre_ln", "layernorm", "gelu", "mlp")
_LENGTH = 6


class _Pairing(NamedTuple):
    """A component of another kind, and the fields of the model spec that combine it with the component under test."""

    kind: str
    name: str
    model_fields: dict[str, Any]


def check_common_pairings(subject: ModelPartUnderTest) -> str | None:
    """Check that it trains and decodes with one component of each other kind, or the refusal names both."""
    chosen: dict[str, _Pairing] = {}
    for pairing in _pairings(subject):
        if pairing.kind not in chosen or chosen[pairing.kind].name in _DEFAULT_PARTS:  # other properties check those
            chosen[pairing.kind] = pairing
    return _check_pairings(subject, list(chosen.values()))


def check_all_pairings(subject: ModelPartUnderTest) -> str | None:
    """Check that it trains and decodes with every registered component, or the refusal names both."""
    return _check_pairings(subject, list(_pairings(subject)))


def _check_pairings(subject: ModelPartUnderTest, pairings: list[_Pairing]) -> str | None:
    refused = []
    for kind, name, fields in pairings:
        other = f"{kind} {name!r}"
        try:
            subject.spec(**fields)
        except SpecError as error:
            if name not in str(error) or subject.component.name not in str(error):
                raise Failed(f"with {other} the model is refused, but the reason does not name both: {error}") from None
            refused.append(other)
            continue
        try:
            _check_model(subject, fields)
        except Failed as failure:
            raise Failed(f"with {other} {failure}") from None
        except Exception as error:
            raise Failed(f"with {other} it raises {type(error).__name__}: {error}") from error
    return f"refused with a reason: {', '.join(refused)}" if refused else None


def _check_model(subject: ModelPartUnderTest, fields: dict[str, Any]) -> None:
    """Check that the model trains, and that cached decoding gives the logits of one forward pass."""
    model, tokens = subject.model(dtype=torch.float64, **fields), subject.tokens(2, _LENGTH)
    loss = model.train()(tokens, tokens)[1]
    loss.backward()
    if not loss.isfinite():
        raise Failed(f"the loss is {loss.item()}")
    with torch.no_grad():
        expected = model.eval()(tokens)[0]
    if model.required_inputs:
        return
    sizes = [3, 1, 2]
    difference = relative_difference(decode(model, tokens, sizes), expected).max()
    if difference > TOLERANCE:
        raise Failed(
            f"the logits of {_LENGTH} tokens fed in chunks of {sizes} differ from those of one forward pass by "
            f"{difference:.2g}"
        )


def _pairings(subject: ModelPartUnderTest) -> Iterator[_Pairing]:
    """Yield a pairing with every component of another kind that has no required options."""
    for kind in _KINDS:
        if kind == subject.kind:
            continue
        for name, component in registry.current().of_kind(kind).items():
            if not has_required_options(component) and (fields := model_fields(subject, kind, name, subject.config)):
                yield _Pairing(kind, name, fields)
