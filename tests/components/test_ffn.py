"""Feed-forward networks against a line of torch, and their widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import Arithmetic, small, with_large_weights
from torch import Tensor
from torch.nn import functional as F

import gptzoo
from gptzoo import Dims
from gptzoo.errors import SpecError

DIMS = Dims(vocab_size=13, context_length=16, d_model=32, n_layers=2, n_heads=4)
ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


def ffn_of(options: dict[str, Any], **spec: Any) -> Any:
    return with_large_weights(gptzoo.load_model_spec(small(ffn=options, **spec)).ffn.build(DIMS).eval())


def some_input(arithmetic: Arithmetic) -> Tensor:
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
    return x.to(arithmetic.device, arithmetic.dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_mlp_is_down_activation_up(bias: bool, activation: str, arithmetic: Arithmetic) -> None:
    ffn = ffn_of({"type": "mlp", "d_ff": 20}, bias=bias, activation=activation)
    ffn.to(arithmetic.device, arithmetic.dtype)
    x = some_input(arithmetic)
    hidden = ACTIVATIONS[activation](F.linear(x, ffn.up.weight, ffn.up.bias))
    arithmetic.close(ffn(x, None), F.linear(hidden, ffn.down.weight, ffn.down.bias))
    assert (ffn.up.bias is not None) == bias


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_glu_is_down_of_activated_gate_times_up(bias: bool, activation: str, arithmetic: Arithmetic) -> None:
    ffn = ffn_of({"type": "glu", "d_ff": 20, "activation": activation}, bias=bias)
    ffn.to(arithmetic.device, arithmetic.dtype)
    x = some_input(arithmetic)
    w, b = ffn.gate_up.weight, ffn.gate_up.bias
    gate = F.linear(x, w[:20], b[:20] if bias else None)
    up = F.linear(x, w[20:], b[20:] if bias else None)
    expected = F.linear(ACTIVATIONS[activation](gate) * up, ffn.down.weight, ffn.down.bias)
    arithmetic.close(ffn(x, None), expected)


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({"type": "mlp"}, 128),
        ({"type": "mlp", "multiplier": 1.5}, 48),
        ({"type": "mlp", "d_ff": 5}, 5),
        ({"type": "mlp", "multiplier": 0.001}, 1),
        ({"type": "glu"}, 85),
        ({"type": "glu", "d_ff": 7, "multiplier": None}, 7),
    ],
    ids=str,
)
def test_the_hidden_width_is_d_ff_or_a_multiple_of_the_models(options: dict[str, Any], width: int) -> None:
    assert ffn_of(options).down.weight.shape == (32, width)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"multiplier": 4, "d_ff": 128}, "$.ffn.multiplier: d_ff sets the hidden width already. Give only one"),
        ({"multiplier": None}, "$.ffn.multiplier: the hidden width is not set. Give multiplier or d_ff."),
        ({"multiplier": -1.0}, "$.ffn.multiplier: should be greater than 0"),
        ({"d_ff": 0}, "$.ffn.d_ff: should be greater than 0"),
        ({"dropout": 1.0}, "$.ffn.dropout: should be at least 0 and below 1"),
        ({"dropout": -0.1}, "$.ffn.dropout: should be at least 0 and below 1"),
    ],
    ids=str,
)
def test_errors_for_invalid_widths_name_the_field(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        gptzoo.load_model_spec(small(ffn={"type": "mlp", **options}))
    assert str(caught.value).startswith(f"spec: {reason}")


def test_a_default_glu_is_as_large_as_a_default_mlp() -> None:
    mlp, glu = (sum(p.numel() for p in ffn_of({"type": name}, bias=False).parameters()) for name in ("mlp", "glu"))
    assert glu == pytest.approx(mlp, rel=0.01)


def test_each_position_is_transformed_independently(arithmetic: Arithmetic) -> None:
    for name in ("mlp", "glu"):
        ffn = ffn_of({"type": name}).to(arithmetic.device, arithmetic.dtype)
        x = some_input(arithmetic)
        arithmetic.close(ffn(x, None)[:, 2:3], ffn(x[:, 2:3], None))
