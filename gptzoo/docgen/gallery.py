"""The gallery: a Markdown table of all registered parts of a model, with their papers and costs."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from gptzoo import registry
from gptzoo.component import Component
from gptzoo.components.positional import Positional
from gptzoo.docgen.describe import describe
from gptzoo.docgen.markdown import ARXIV_ID, GENERATED_MARK, markdown_table
from gptzoo.docgen.page import components_of
from gptzoo.errors import SpecError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build_on_meta
from gptzoo.spec.model import ModelSpec

REFERENCE_MODEL = {"vocab_size": 50257, "context_length": 1024, "d_model": 768, "n_layers": 1, "n_heads": 12}

_KINDS = ("architecture", "attention", "positional", "norm", "norm_layer", "ffn", "activation")
_POSITIONAL_METHODS = ("embed", "rotate", "bias")
_SUBLAYERS_WITH_STATE = ("attention", "ffn")  # kinds whose components are sublayers of the same name

_INTRODUCTION = f"""All registered parts of a model: the built-in ones, and those of the packages under `plugins/`.

- **overrides**: the methods of `gptzoo.Positional` that a positional overrides.
- **supports**: the features that an attention supports.
- **parameters**: how many parameters a model with this part has more than the model of default parts.
- **state**: how many numbers one layer caches for one sequence while decoding, per token or in total.

The model has 1 layer, `d_model` {REFERENCE_MODEL["d_model"]}, {REFERENCE_MODEL["n_heads"]} heads, \
{REFERENCE_MODEL["context_length"]:,} tokens of context and a vocabulary of {REFERENCE_MODEL["vocab_size"]:,} tokens. \
Options have their defaults.
A dash means that the part does not fit this model."""


def render_gallery(package: str | None = None) -> str:
    """Return the page of all registered parts of a model, or of those that one package provides."""
    components = components_of(None, package)
    n_default = _count_parameters({})
    rows = [_row(component, n_default) for kind in _KINDS for component in components if component.kind == kind]
    header = ["kind", "name", "package", "paper", "overrides", "supports", "parameters", "state"]
    return "\n\n".join([GENERATED_MARK, "# Gallery", _INTRODUCTION, markdown_table(header, rows)]) + "\n"


def _row(component: type[Component], n_default: int) -> list[str]:
    fields = _model_fields(component)
    try:
        parameters = f"{_count_parameters(fields) - n_default:+,}".replace("+0", "0")
        state = _state_size(component, fields)
    except SpecError:
        parameters = state = "–"
    return [
        f"`{component.kind}`",
        f"`{component.name}`",
        registry.current().origin(component).distribution,
        "; ".join(map(_citation, component.paper.split("; "))),
        ", ".join(method for method in _POSITIONAL_METHODS if _overrides(component, method)),
        ", ".join(sorted(getattr(component, "supports", ()))),
        parameters,
        state,
    ]


def _citation(paper: str) -> str:
    """Return the authors and the year of a paper, with a link if it is on arXiv."""
    authors_and_year = re.match(r".*?\b\d{4}\b", paper)
    arxiv_id = ARXIV_ID.search(paper)
    if authors_and_year is None:
        return paper
    return f"[{authors_and_year[0]}](https://arxiv.org/abs/{arxiv_id[1]})" if arxiv_id else authors_and_year[0]


def _overrides(component: type[Component], method: str) -> bool:
    return issubclass(component, Positional) and getattr(component, method) is not getattr(Positional, method)


# ---------------------------------------------------------------------- costs


def _model_fields(component: type[Component]) -> dict[str, Any]:
    """Return the fields of a model spec that select the component, with examples for options that need a value."""
    fields = component.Config.model_fields
    example = describe(component)["example"]
    given = {name for name, field in fields.items() if field.is_required() or field.examples}
    config = {name: value for name, value in example.items() if name == "type" or name in given}
    if component.kind == "norm_layer":
        return {"norm": {"type": "pre_ln", "layer": config}}
    return {component.kind: config}


def _reference_model(fields: dict[str, Any]) -> Architecture:
    """Build the reference model with other fields on the meta device. Raises SpecError if the part does not fit."""
    try:
        return build_on_meta(ModelSpec.model_validate({**REFERENCE_MODEL, **fields}))
    except ValidationError:
        raise SpecError([]) from None


def _count_parameters(fields: dict[str, Any]) -> int:
    return count_parameters(_reference_model(fields)).total


def _state_size(component: type[Component], fields: dict[str, Any]) -> str:
    """Describe the size of the state, from its growth between one and two contexts of tokens."""
    if component.kind not in (*_SUBLAYERS_WITH_STATE, "architecture"):
        return ""
    length = REFERENCE_MODEL["context_length"]
    size, size_of_twice = _count_state(component, fields, length), _count_state(component, fields, 2 * length)
    per_token = (size_of_twice - size) // length
    constant = size - per_token * length
    texts = [f"{per_token:,} per token"] if per_token else []
    if constant > per_token:  # a KV cache has one slot more than tokens, which padding is written to
        texts.append(f"{constant:,} in total")
    return " and ".join(texts)


def _count_state(component: type[Component], fields: dict[str, Any], max_length: int) -> int:
    """Count the floating-point numbers in the state of one layer for one sequence."""
    (layer,) = _reference_model(fields).new_states(1, max_length)
    states: list[dict[str, Tensor]] = list(layer.values())
    if component.kind in _SUBLAYERS_WITH_STATE:
        states = [layer.get(component.kind, {})]
    return sum(tensor.numel() for state in states for tensor in state.values() if tensor.is_floating_point())
