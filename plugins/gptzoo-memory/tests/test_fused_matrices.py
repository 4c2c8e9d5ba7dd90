"""The matrices that optimizers see in the fused parameters are those that the layers use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 1, "n_heads": 4}
MLA = {"type": "mla", "kv_rank": 12, "rope_dim": 4, "nope_dim": 6, "v_dim": 10}
CASES: list[tuple[Any, dict[str, list[int]]]] = [
    (MLA, {"kv_down.weight": [12, 4], "kv.weight": [4 * 6, 4 * 10]}),
    ("infini", {"qkv.weight": [32, 32, 32]}),
]


@pytest.mark.parametrize(("attention", "sizes"), CASES, ids=["mla", "infini"])
def test_the_last_matrix_is_that_of_the_values(attention: Any, sizes: dict[str, list[int]]) -> None:
    """Without it, attention has no output. Without the first one, it has."""
    model: Any = gptzoo.build({**SMALL, "attention": attention, "positional": "rope", "bias": False})
    layer = model.blocks[0].attention
    blocks = layer.fused_blocks()
    rows = {name: of.rows() for name, of in blocks.items()}
    assert {name: [len(indices) for indices in of] for name, of in rows.items()} == sizes
    name = [*sizes][-1]
    weight = layer.get_parameter(name)
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        for index in (0, -1):
            before = weight.clone()
            weight[rows[name][index]] = 0.0
            model(tokens)
            weight.copy_(before)
    assert outputs[0].any()
    assert not outputs[1].any()


def test_the_first_rows_of_the_down_projection_are_the_latent() -> None:
    model: Any = gptzoo.build({**SMALL, "attention": MLA, "positional": "rope", "bias": False})
    layer = model.blocks[0].attention
    latent, _ = layer.fused_blocks()["kv_down.weight"].rows()
    with torch.no_grad():
        layer.kv_down.weight[latent] = 0.0
        outputs: list[torch.Tensor] = []
        layer.register_forward_hook(lambda module, args, output: outputs.append(output))
        model(torch.arange(12)[None])
    assert not outputs[0].any()  # without a latent there are no values
