"""The components that a spec names."""

from __future__ import annotations

from typing import Any

import pytest
from support import admit, small

import gptzoo
from gptzoo.components.norm import RMSNorm
from gptzoo.spec.components_in_spec import components_in


def test_components_in_lists_and_components_have_their_paths() -> None:
    spec = gptzoo.load_model_spec(small(attention=["naive", {"type": "sdpa", "qk_norm": "rmsnorm"}]))
    assert {part.path: part.config.type for part in components_in(spec)} == {
        "$.architecture": "decoder",
        "$.attention[0]": "naive",
        "$.attention[1]": "sdpa",
        "$.attention[1].qk_norm": "rmsnorm",
        "$.positional": "learned",
        "$.norm": "pre_ln",
        "$.norm.layer": "layernorm",
        "$.activation": "gelu",
        "$.ffn": "mlp",
        "$.ffn.activation": "gelu",
    }


def test_a_run_has_its_own_components_and_those_of_its_model() -> None:
    run = gptzoo.load_run_spec({"model": small(), "steps": 1})
    paths = {part.path for part in components_in(run)}
    assert {"$.model.attention", "$.corpus", "$.tokenizer", "$.optimizer", "$.schedule"} <= paths


class Theirs(RMSNorm):
    """A norm."""

    name = "theirs"


@pytest.mark.usefixtures("fresh_registry")
def test_a_component_has_an_origin() -> None:
    admit(Theirs)
    spec = gptzoo.load_model_spec(small(norm={"type": "pre_ln", "layer": {"type": "theirs", "eps": 0.5}}))
    (part,) = (part.as_dict() for part in components_in(spec) if part.path == "$.norm.layer")
    expected: dict[str, Any] = {"kind": "norm_layer", "type": "theirs", "options": {"eps": 0.5, "weight": True}}
    assert part == {"path": "$.norm.layer", **expected, "origin": "gptzoo-theirs 1.0"}
