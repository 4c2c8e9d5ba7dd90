"""The matrices that optimizers see in the fused projection are those of queries, keys and values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 1, "n_heads": 4}
GATED_DELTA = {"type": "gated_delta", "n_key_heads": 2, "d_key": 4, "d_value": 6}


@pytest.mark.parametrize(
    ("attention", "sizes"),
    [("linear", [32, 32, 32]), ("retention", [32, 32, 32]), (GATED_DELTA, [8, 8, 24])],
    ids=["linear", "retention", "gated_delta"],
)
def test_the_last_matrix_is_that_of_the_values(attention: Any, sizes: list[int]) -> None:
    """Without it, attention has no output. Without the first one, linear attention has."""
    model: Any = gptzoo.build({**SMALL, "attention": attention, "positional": "rope", "bias": False})
    layer = model.blocks[0].attention
    rows = layer.fused_blocks()["qkv.weight"].rows()
    assert [len(indices) for indices in rows] == sizes
    outputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        model(torch.arange(12)[None])
        layer.qkv.weight[rows[-1]] = 0.0
        model(torch.arange(12)[None])
    assert outputs[0].any()
    assert not outputs[1].any()
