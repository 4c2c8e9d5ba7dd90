"""Groups of experts, and shared networks, compared with a loop over tokens and experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import gptzoo

SPEC: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
EXPERT = {"type": "mlp", "d_ff": 12}
OPTIONS: list[dict[str, Any]] = [
    {"router_bias": True},
    {"scale": 2.5, "scores": "sigmoid"},
    {"n_experts": 8, "n_groups": 4, "n_active_groups": 2, "n_active": 3},
    {"n_experts": 6, "n_groups": 2, "group_score": "top2", "scores": "sigmoid", "balance": "bias"},
    {"shared": {"type": "glu", "d_ff": 5}},
    {"n_shared": 2, "shared_gate": True},
    {"shared": {"type": "mlp", "d_ff": 3}, "shared_gate": True, "normalise": False, "scale": 0.5},
]


def mix_plainly(moe: Any, token: Tensor, context: gptzoo.ForwardContext) -> Tensor:
    """Compute the output (C,) for one token (C,)."""
    config = moe.config
    logits = moe.router(token)
    scores = logits.softmax(0) if config.scores == "softmax" else logits.sigmoid()
    selection = scores if moe.balance is None else moe.balance.selection_scores(scores)
    size = config.n_experts // config.n_groups
    groups = [selection[first : first + size] for first in range(0, config.n_experts, size)]
    value = [float(group.max() if config.group_score == "max" else group.topk(2).values.sum()) for group in groups]
    best_first = sorted(range(config.n_groups), key=value.__getitem__, reverse=True)
    active = best_first[: config.n_active_groups or max(1, config.n_groups // 2)]
    allowed = [expert for expert in range(config.n_experts) if expert // size in active]
    chosen = sorted(allowed, key=lambda expert: float(selection[expert]), reverse=True)[: config.n_active]
    weights = scores[chosen]
    weights = weights / weights.sum() if config.normalise else weights
    x = token[None, None]
    y = sum(config.scale * w * moe.experts[e](x, context)[0, 0] for w, e in zip(weights, chosen, strict=True))
    gate = moe.shared_gate(token).sigmoid() if config.shared_gate else 1.0
    return y + sum(gate * network(x, context)[0, 0] for network in moe.shared)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_output_equals_a_loop_over_tokens_and_experts(options: dict[str, Any]) -> None:
    model = gptzoo.build({**SPEC, "ffn": {"type": "moe", "expert": EXPERT, **options}}).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
    moe = model.blocks[0].ffn
    calls: list[tuple[Tensor, gptzoo.ForwardContext, Tensor]] = []
    moe.register_forward_hook(lambda _, args, output: calls.append((args[0], args[1], output.y)))
    with torch.no_grad():
        model(torch.arange(12)[None])
        (x, context, y), *_ = calls
        for token, expected in zip(x[0], y[0], strict=True):
            torch.testing.assert_close(mix_plainly(moe, token, context), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_groups": 3}, r"\$\.ffn\.n_groups: should divide n_experts, 8, not 3"),
        ({"n_groups": 2, "n_active_groups": 3}, r"n_active_groups: should be at most n_groups, 2, not 3"),
        ({"n_groups": 8, "n_active_groups": 1}, r"n_active: should be at most 1, in the active groups, not 2"),
        ({"n_groups": 8, "group_score": "top2"}, r'group_score: should be "max" for groups of one expert'),
        ({"shared": "mlp", "n_shared": 1}, r"shared: should be null with n_shared"),
        ({"shared_gate": True}, r"shared_gate: has no effect without a shared network"),
        ({"shared": "moe"}, r"shared: is a mixture of experts itself"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=message):
        gptzoo.load_model_spec({**SPEC, "ffn": {"type": "moe", "expert": EXPERT, **options}})
