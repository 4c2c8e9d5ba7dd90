"""Norm layers against torch's, and norm schemes against a transformer in ten lines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import Arithmetic, logits_of, small, tokens_of, with_large_weights
from torch import Tensor, nn
from torch.nn import functional as F

import gptzoo
from gptzoo import Dims
from gptzoo.components.norm import LayerNorm, Norm, PostNorm, PreNorm, RMSNorm

DIMS = Dims(vocab_size=13, context_length=16, d_model=32, n_layers=2, n_heads=4)


def layer_of(component: Any, arithmetic: Arithmetic, **options: Any) -> Any:
    return with_large_weights(component(component.Config(**options), 12)).to(arithmetic.device, arithmetic.dtype)


def some_input(arithmetic: Arithmetic, *shape: int) -> Tensor:
    x = 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(2)) + 1
    return x.to(arithmetic.device, arithmetic.dtype).requires_grad_()


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("bias", [True, False])
def test_layernorm_equals_torch_and_its_formula(bias: bool, eps: float, arithmetic: Arithmetic) -> None:
    ours = layer_of(LayerNorm, arithmetic, eps=eps, bias=bias)
    theirs = nn.LayerNorm(12, eps=eps, bias=bias, device=arithmetic.device, dtype=arithmetic.dtype)
    theirs.load_state_dict(ours.state_dict())
    x = some_input(arithmetic, 2, 5, 12)
    arithmetic.close(ours(x), theirs(x))
    variance = x.var(-1, keepdim=True, unbiased=False)
    formula = (x - x.mean(-1, keepdim=True)) / (variance + eps).sqrt() * ours.weight
    arithmetic.close(ours(x), formula + ours.bias if bias else formula)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_rmsnorm_equals_torch_and_its_formula(eps: float, arithmetic: Arithmetic) -> None:
    ours = layer_of(RMSNorm, arithmetic, eps=eps)
    theirs = nn.RMSNorm(12, eps=eps, device=arithmetic.device, dtype=arithmetic.dtype)
    theirs.load_state_dict(ours.state_dict())
    x = some_input(arithmetic, 2, 5, 12)
    arithmetic.close(ours(x), theirs(x))
    arithmetic.close(ours(x), x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * ours.weight)


def test_norms_start_as_plain_normalisation() -> None:
    model = gptzoo.build(small(norm={"type": "pre_ln", "layer": "layernorm"}))
    layers = [module for module in model.modules() if isinstance(module, LayerNorm)]
    assert len(layers) == 2 * 2 + 1
    assert all((layer.weight == 1).all() and (layer.bias == 0).all() for layer in layers)


def test_a_norm_without_bias_has_no_bias_parameter() -> None:
    model = gptzoo.build(small(bias=False), device="meta")
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


class Recorder:
    """A sublayer that multiplies by a number and records its inputs."""

    def __init__(self, factor: float):
        self.factor = factor

    def __call__(self, x: Tensor) -> Tensor:
        self.given = x
        return self.factor * x


def scheme(component: type[Norm], arithmetic: Arithmetic) -> Any:
    config = gptzoo.load_model_spec(small(norm=component.name)).norm
    return with_large_weights(component(config, DIMS, ["first", "second"])).to(arithmetic.device, arithmetic.dtype)


def test_pre_ln_normalises_the_input_of_a_sublayer_but_not_the_stream(arithmetic: Arithmetic) -> None:
    norm = scheme(PreNorm, arithmetic)
    first, second = Recorder(2.0), Recorder(3.0)
    x = some_input(arithmetic, 2, 5, 32)
    y = norm(x, {"first": first, "second": second})
    middle = x + 2 * norm.layers["first"](x)
    arithmetic.close(first.given, norm.layers["first"](x))
    arithmetic.close(second.given, norm.layers["second"](middle))
    arithmetic.close(y, middle + 3 * norm.layers["second"](middle))


def test_post_ln_normalises_the_stream_after_each_sublayer(arithmetic: Arithmetic) -> None:
    norm = scheme(PostNorm, arithmetic)
    first, second = Recorder(2.0), Recorder(3.0)
    x = some_input(arithmetic, 2, 5, 32)
    y = norm(x, {"first": first, "second": second})
    middle = norm.layers["first"](x + 2 * x)
    arithmetic.close(first.given, x)
    arithmetic.close(second.given, middle)
    arithmetic.close(y, norm.layers["second"](middle + 3 * middle))


def test_only_pre_ln_has_a_final_norm() -> None:
    keys = {name: set(gptzoo.build(small(norm=name), device="meta").state_dict()) for name in ("pre_ln", "post_ln")}
    assert keys["pre_ln"] - keys["post_ln"] == {"exit.weight", "exit.bias"}
    assert keys["post_ln"] <= keys["pre_ln"]


@pytest.mark.parametrize("scheme", ["pre_ln", "post_ln"])
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_the_whole_model_equals_a_transformer_in_ten_lines(attention: str, scheme: str, arithmetic: Arithmetic) -> None:
    model = arithmetic.model(small(norm=scheme, attention=attention))
    w = dict(model.named_parameters())
    tokens = tokens_of(model, 2, 9)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (32,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def attend(block: str, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (4, 8)).transpose(1, 2) for t in linear(f"{block}.attention.qkv", x).chunk(3, -1))
        future = torch.ones(9, 9, dtype=torch.bool, device=x.device).triu(1)
        weights = (q @ k.mT / 8**0.5).masked_fill(future, -torch.inf).softmax(-1)
        return linear(f"{block}.attention.out", (weights @ v).transpose(1, 2).flatten(2))

    def mlp(block: str, x: Tensor) -> Tensor:
        return linear(f"{block}.ffn.down", F.gelu(linear(f"{block}.ffn.up", x)))

    x = w["embed.weight"][tokens] + w["positionals.0.table.weight"][:9]
    for block in ("blocks.0", "blocks.1"):
        for name, sublayer in (("attention", attend), ("ffn", mlp)):
            if scheme == "pre_ln":
                x = x + sublayer(block, norm(f"{block}.norm.layers.{name}", x))
            else:
                x = norm(f"{block}.norm.layers.{name}", x + sublayer(block, x))
    x = norm("exit", x) if scheme == "pre_ln" else x
    arithmetic.close(logits_of(model, tokens), x @ w["embed.weight"].T)
