"""Every part of a model that is registered, in one table: who brings it, what it uses, what it costs."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from gptzoo import registry
from gptzoo.component import Component
from gptzoo.components.positional import Positional
from gptzoo.docgen.describe import describe
from gptzoo.docgen.page import ARXIV, MARK, components_of, table
from gptzoo.errors import SpecError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import assemble
from gptzoo.spec.model import ModelSpec

REFERENCE = {"vocab_size": 50257, "context_length": 1024, "d_model": 768, "n_layers": 1, "n_heads": 12}

_KINDS = ("architecture", "attention", "positional", "norm", "norm_layer", "ffn", "activation")
_SEAMS = ("embed", "rotate", "bias")
_WITH_STATE = {"attention": "attention", "ffn": "ffn"}  # the sublayer whose state is the component's

_SIZE = (
    f"1 layer, `d_model` {REFERENCE['d_model']}, {REFERENCE['n_heads']} heads, {REFERENCE['context_length']} tokens of "
    f"context and a vocabulary of {REFERENCE['vocab_size']:,}"
)
_INTRODUCTION = f"""Every part of a model that is registered: what ships, and what the packages under `plugins/` bring.

- **uses**: the seams of a positional; **honours**: what an attention takes into account.
- **parameters**: those of a model with it, less those of the model that leaves every part to its default. Both
  have {_SIZE}.
- **state**: how many numbers a layer keeps of a row while decoding: so many a token, or so many in all.

Options are at their defaults. A dash is where the other parts cannot be."""


def gallery(package: str | None = None) -> str:
    """The page of all parts of models, or of those that one package brings."""
    components = components_of(None, package)
    default = _n_parameters({})
    rows = [_row(component, default) for kind in _KINDS for component in components if component.kind == kind]
    header = ["kind", "name", "package", "paper", "uses", "supports", "parameters", "state"]
    return "\n\n".join([MARK, "# Gallery", _INTRODUCTION, table(header, rows)]) + "\n"


def _row(component: type[Component], default: int) -> list[str]:
    place = _place(component)
    try:
        parameters, state = f"{_n_parameters(place) - default:+,}".replace("+0", "0"), _state(component, place)
    except SpecError:
        parameters = state = "–"
    uses = [seam for seam in _SEAMS if _overrides(component, seam)]
    return [
        f"`{component.kind}`",
        f"`{component.name}`",
        registry.current().origin(component).distribution,
        "; ".join(map(_cited, component.paper.split("; "))),
        ", ".join(uses),
        ", ".join(sorted(getattr(component, "supports", ()))),
        parameters,
        state,
    ]


def _cited(paper: str) -> str:
    """Authors and year, with a link where the paper is on arXiv."""
    short = re.match(r".*?\b\d{4}\b", paper)
    number = ARXIV.search(paper)
    if short is None:
        return paper
    return f"[{short[0]}](https://arxiv.org/abs/{number[1]})" if number else short[0]


def _overrides(component: type[Component], seam: str) -> bool:
    return issubclass(component, Positional) and getattr(component, seam) is not getattr(Positional, seam)


# ---------------------------------------------------------------------- what it costs


def _place(component: type[Component]) -> dict[str, Any]:
    """The fields of a model spec that put it there; an option that must be given or has an example is as in that."""
    fields = component.Config.model_fields
    example = describe(component)["example"]
    given = {name for name, field in fields.items() if field.is_required() or field.examples}
    config = {name: value for name, value in example.items() if name == "type" or name in given}
    if component.kind == "norm_layer":
        return {"norm": {"type": "pre_ln", "layer": config}}
    return {component.kind: config}


def _model(place: dict[str, Any]) -> Any:
    """The reference model with a part put into it, on the meta device. Raises SpecError where it does not fit."""
    try:
        return assemble(ModelSpec.model_validate({**REFERENCE, **place}))
    except ValidationError:
        raise SpecError([]) from None


def _n_parameters(place: dict[str, Any]) -> int:
    return count_parameters(_model(place)).total


def _state(component: type[Component], place: dict[str, Any]) -> str:
    """How many numbers are kept of a row, by how they grow from one context of tokens to two."""
    if component.kind not in (*_WITH_STATE, "architecture"):
        return ""
    length = REFERENCE["context_length"]
    once, twice = _n_kept(component, place, length), _n_kept(component, place, 2 * length)
    per_token = (twice - once) // length
    rest = once - per_token * length
    told = [f"{per_token:,} a token"] if per_token else []
    if rest > per_token:  # a cache has one slot more than tokens, which takes what padding writes
        told.append(f"{rest:,} in all")
    return " and ".join(told)


def _n_kept(component: type[Component], place: dict[str, Any], length: int) -> int:
    (layer,) = _model(place).new_states(1, length)
    name = _WITH_STATE.get(component.kind)
    states: list[dict[str, Tensor]] = list(layer.values()) if name is None else [layer.get(name, {})]
    return sum(tensor.numel() for state in states for tensor in state.values() if tensor.is_floating_point())
