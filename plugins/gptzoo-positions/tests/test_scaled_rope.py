"""`scaled_rope`, the former name of `rope` with options, and odd head widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 64, "d_model": 64, "n_layers": 1, "n_heads": 4}


@pytest.mark.parametrize("options", [{"fraction": 0.5}, {"scaling": {"type": "yarn", "factor": 4}}])
def test_it_equals_the_built_in_rope(options: dict[str, Any]) -> None:
    tokens = torch.arange(40)[None] % 13
    logits = [
        gptzoo.build({**SMALL, "positional": {"type": name, **options}}).eval()(tokens)[0]
        for name in ("rope", "scaled_rope")
    ]
    assert torch.equal(*logits)


@pytest.mark.parametrize("name", ["scaled_rope", "xpos"])
def test_an_odd_head_width_is_refused(name: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.positional: rotates .*, so the width of a head .* 5"):
        gptzoo.load_model_spec({**SMALL, "d_model": 20, "positional": name})
