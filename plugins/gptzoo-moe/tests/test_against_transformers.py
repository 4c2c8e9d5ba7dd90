"""The mixture compared with transformers: the blocks of Mixtral and DeepSeek-V3, and the load-balancing loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gptzoo

transformers = pytest.importorskip("transformers")
SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 1, "n_heads": 4}


def swiglu_moe(**options: Any) -> Any:
    """Build a mixture of SwiGLU experts without biases."""
    ffn = {"type": "moe", "expert": {"type": "glu", "d_ff": 20}, **options}
    return gptzoo.build({**SMALL, "ffn": ffn, "activation": "silu", "bias": False}).blocks[0].ffn.eval()


def randomise(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor.shape[-1] ** -0.5)


def load(ours: Any, theirs: Any) -> None:
    """Load the router and the experts of a block of transformers."""
    weights = {"router.weight": theirs.gate.weight}
    for index in range(len(ours.experts)):
        weights[f"experts.{index}.gate_up.weight"] = theirs.experts.gate_up_proj[index]
        weights[f"experts.{index}.down.weight"] = theirs.experts.down_proj[index]
    missing = ours.load_state_dict(weights, strict=False).missing_keys
    assert all(name.startswith(("shared.", "balance.")) for name in missing)


def random_input() -> Tensor:
    return torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1))


def context(positions: Tensor | None = None) -> gptzoo.ForwardContext:
    return gptzoo.ForwardContext(torch.arange(9)[None] if positions is None else positions, nn.Identity())


@torch.no_grad()
def test_softmax_scores_equal_mixtral() -> None:
    config = transformers.MixtralConfig(
        hidden_size=32, intermediate_size=20, num_local_experts=6, num_experts_per_tok=2, num_attention_heads=4
    )
    theirs = transformers.models.mixtral.modeling_mixtral.MixtralSparseMoeBlock(config).eval()
    randomise(theirs)
    ours = swiglu_moe(n_experts=6, n_active=2)
    load(ours, theirs)
    torch.testing.assert_close(ours(random_input(), context()).y, theirs(random_input()), rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("normalise", [True, False])
def test_sigmoid_scores_with_bias_and_shared_experts_equal_deepseek_v3(normalise: bool) -> None:
    config = transformers.DeepseekV3Config(
        hidden_size=32,
        moe_intermediate_size=20,
        n_routed_experts=6,
        num_experts_per_tok=3,
        n_shared_experts=2,
        n_group=1,
        topk_group=1,
        norm_topk_prob=normalise,
        routed_scaling_factor=1.0,
    )
    theirs = transformers.models.deepseek_v3.modeling_deepseek_v3.DeepseekV3MoE(config).eval()
    randomise(theirs)
    ours = swiglu_moe(n_experts=6, n_active=3, n_shared=2, scores="sigmoid", normalise=normalise, balance="bias")
    load(ours, theirs)
    ours.balance.bias.copy_(theirs.gate.e_score_correction_bias)
    shared = theirs.shared_experts  # one network of twice the width equals the sum of two
    for index, expert in enumerate(ours.shared):
        half = slice(20 * index, 20 * (index + 1))
        expert.gate_up.weight.copy_(torch.cat([shared.gate_proj.weight[half], shared.up_proj.weight[half]]))
        expert.down.weight.copy_(shared.down_proj.weight[:, half])
    torch.testing.assert_close(ours(random_input(), context()).y, theirs(random_input()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("n_active", [1, 2])
def test_the_balance_loss_equals_transformers_divided_by_the_active_experts(n_active: int, padded: bool) -> None:
    theirs = transformers.models.mixtral.modeling_mixtral.load_balancing_loss_func
    options = {"n_experts": 6, "n_active": n_active, "normalise": n_active > 1}
    ours = swiglu_moe(**options, balance={"type": "loss", "coefficient": 1.0})
    randomise(ours)
    positions = torch.arange(9).repeat(3, 1)
    if padded:
        positions[1] = torch.tensor([-1, -1, -1, -1, 0, 1, 2, 3, 4])
    x = random_input()
    loss = ours(x, context(positions)).losses["balance"]
    expected = theirs((x.flatten(0, 1) @ ours.router.weight.T,), 6, n_active, (positions >= 0).long()) / n_active
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, ours.router.weight)
    (expected_gradient,) = torch.autograd.grad(expected, ours.router.weight)
    torch.testing.assert_close(gradient, expected_gradient)
