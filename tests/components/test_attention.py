"""The two attentions against a reference in loops, and against each other."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from support import SPECS, Arithmetic, small, tokens_of, with_large_weights
from torch import Tensor
from torch.nn import functional as F

import gptzoo
from gptzoo import AuxiliaryOutputs, Dims, ForwardContext, Positional, new_cache
from gptzoo.components.multi_head_attention import MultiHeadAttention

LENGTH = 9
DIMS = Dims(vocab_size=13, context_length=16, d_model=32, n_layers=2, n_heads=4)


class TreeBias(Positional):
    """A score bias that differs between heads and distances."""

    name = "tree_bias"

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = (q_pos[:, None, :, None] - k_pos[:, None, None, :]).float()
        head = torch.arange(1, 5, device=q_pos.device)[None, :, None, None]
        return (distance * head * 0.3).sin()  # (B|1, H, T, S)


class NoBias(Positional):
    """No positions."""

    name = "no_bias"


def attention_of(name: str, arithmetic: Arithmetic, **options: Any) -> Any:
    """Build a registered attention in eval mode, with weights so large that scores matter."""
    spec = gptzoo.load_model_spec(small(attention={"type": name, **options}, positional="none"))
    return with_large_weights(spec.attention.build(DIMS).eval()).to(arithmetic.device, arithmetic.dtype)


def context_of(positions: Tensor, positional: Any = NoBias, **options: Any) -> ForwardContext:
    part = positional(positional.Config(), DIMS)
    return ForwardContext(positions, part, self_bias=part.bias(positions, positions), **options)


def some_input(arithmetic: Arithmetic, batch_size: int = 2, length: int = LENGTH) -> Tensor:
    x = torch.randn(batch_size, length, 32, generator=torch.Generator().manual_seed(5))
    return x.to(arithmetic.device, arithmetic.dtype)


def positions_of(arithmetic: Arithmetic, *rows: list[int]) -> Tensor:
    return torch.tensor(rows or [list(range(LENGTH))], device=arithmetic.device)


def reference(attention: Any, x: Tensor, context: ForwardContext, window: int | None) -> Tensor:
    """Compute attention in a loop over rows, heads and queries."""
    group_size = attention.n_heads // attention.n_kv_heads
    q, k, v = (part.unflatten(-1, (-1, 8)) for part in attention.qkv(x).split(attention.widths, dim=-1))
    positions = context.positions.expand(x.shape[:2])
    y = torch.zeros_like(q)
    for row, head, query in itertools.product(range(x.shape[0]), range(4), range(x.shape[1])):
        keys = [
            key
            for key in range(x.shape[1])
            if 0 <= positions[row, key] <= positions[row, query]
            and (window is None or positions[row, query] - positions[row, key] < window)
            and (context.documents is None or context.documents[row, query] == context.documents[row, key])
        ]
        keys = keys or list(range(x.shape[1]))  # a padding query attends to all keys
        scores = k[row, keys, head // group_size] @ q[row, query, head] / 8**0.5
        if context.self_bias is not None:
            scores = scores + context.self_bias.expand(x.shape[0], -1, -1, -1)[row, head, query, keys].to(scores.dtype)
        y[row, query, head] = scores.softmax(0) @ v[row, keys, head // group_size]
    return attention.out(y.flatten(-2))


PADDED = [[-1, -1, 0, 1, 2, 3, 4, 5, 6], list(range(LENGTH))]
SITUATIONS: dict[str, dict[str, Any]] = {
    "plain": {"trivially_causal": True},
    "padding": {"positions": PADDED},
    "documents": {"documents": [[0, 0, 0, 1, 1, 1, 1, 2, 2], [4] * 3 + [3] * 6]},
}


def situation(arithmetic: Arithmetic, options: dict[str, Any], positional: Any) -> ForwardContext:
    options = dict(options)
    positions = positions_of(arithmetic, *options.pop("positions", []))
    if "documents" in options:
        options["documents"] = torch.tensor(options["documents"], device=arithmetic.device)
    return context_of(positions, positional, **options)


every_situation = pytest.mark.parametrize("options", SITUATIONS.values(), ids=SITUATIONS.keys())
every_positional = pytest.mark.parametrize("positional", [NoBias, TreeBias])
every_grouping = pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
every_window = pytest.mark.parametrize("window", [None, 1, 3, LENGTH, 16])
both = pytest.mark.parametrize("name", ["naive", "sdpa"])


@every_situation
@every_positional
@pytest.mark.parametrize(("n_kv_heads", "window"), [(4, None), (1, 3), (2, 1)])
@both
def test_attention_equals_a_loop_over_rows_heads_and_queries(
    name: str, n_kv_heads: int, window: int | None, positional: Any, options: dict[str, Any]
) -> None:
    arithmetic = Arithmetic("cpu", "cpu", torch.float64, tolerance=1e-6)  # the bias is made in float32
    attention = attention_of(name, arithmetic, n_kv_heads=n_kv_heads, window=window)
    x, context = some_input(arithmetic), situation(arithmetic, options, positional)
    arithmetic.close(attention(x, context), reference(attention, x, context, window))


@every_situation
@every_positional
@every_grouping
@every_window
def test_naive_and_sdpa_have_equal_outputs_and_gradients(
    window: int | None, n_kv_heads: int, positional: Any, options: dict[str, Any], arithmetic: Arithmetic
) -> None:
    results = []
    for name in ("naive", "sdpa"):
        attention = attention_of(name, arithmetic, n_kv_heads=n_kv_heads, window=window)
        x = some_input(arithmetic).requires_grad_()
        y = attention(x, situation(arithmetic, options, positional))
        (y * torch.linspace(-1, 1, y.numel(), device=y.device).view_as(y)).sum().backward()
        results.append([y, x.grad, *(parameter.grad for parameter in attention.parameters())])
    for naive, sdpa in zip(*results, strict=True):
        arithmetic.close(sdpa, naive)


@pytest.mark.parametrize("spec", [s for k, s in SPECS.items() if k.startswith("naive")], ids=lambda s: s["positional"])
def test_weights_of_one_attention_load_into_the_other(spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    naive = arithmetic.model(spec)
    sdpa = arithmetic.model(spec | {"attention": spec["attention"] | {"type": "sdpa"}})
    sdpa.load_state_dict(naive.state_dict())
    tokens = tokens_of(naive, 2, LENGTH)
    losses = [model(tokens, tokens.roll(-1, 1))[1] for model in (naive, sdpa)]
    for loss in losses:
        loss.backward()
    arithmetic.close(losses[1], losses[0])
    for ours, theirs in zip(sdpa.parameters(), naive.parameters(), strict=True):
        arithmetic.close(ours.grad, theirs.grad)


@both
@every_positional
@every_window
def test_captured_weights_sum_to_one_and_are_zero_at_masked_keys(
    window: int | None, positional: Any, name: str, arithmetic: Arithmetic
) -> None:
    attention = attention_of(name, arithmetic, window=window)
    context = context_of(positions_of(arithmetic), positional, trivially_causal=True, capture=frozenset({"attention"}))
    x = some_input(arithmetic)
    output = attention(x, context)
    weights = output.captures["attention"]
    assert weights.shape == (2, 4, LENGTH, LENGTH)
    arithmetic.close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    visible = context.attention_mask(context.positions, window).expand_as(weights)
    assert not weights[~visible].any()
    assert weights[visible].all()
    arithmetic.close(output.y, attention(x, context_of(positions_of(arithmetic), positional, trivially_causal=True)))


@both
def test_captured_weights_of_a_decode_step_have_the_positions_of_their_keys(name: str, arithmetic: Arithmetic) -> None:
    model = arithmetic.model(small(attention={"type": name, "window": 3}))
    tokens = tokens_of(model, 1, 6)
    states = model.new_states(1, 6)
    model(tokens[:, :5], states=states, no_past=True)
    seen = AuxiliaryOutputs()
    positions = torch.tensor([[5]], device=tokens.device)
    model(tokens[:, 5:], positions=positions, states=states, capture=["attention"], auxiliary=seen)
    weights = seen.captures["blocks.0.attention.attention"][0, :, 0]  # (H, S)
    k_pos = seen.captures["blocks.0.attention.k_pos"][0]
    assert sorted(k for k in k_pos.tolist() if k >= 0) == [3, 4, 5]
    assert not weights[:, k_pos < 0].any()
    arithmetic.close(weights.sum(-1), torch.ones_like(weights[:, 0]))


@both
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_a_token_attends_to_itself_and_window_minus_one_tokens_before_it(
    window: int, name: str, arithmetic: Arithmetic
) -> None:
    attention = attention_of(name, arithmetic, window=window)
    context = context_of(positions_of(arithmetic), trivially_causal=True)
    x = some_input(arithmetic)
    y = attention(x, context)
    for position in range(LENGTH):
        changed = x.clone()
        changed[:, position] += 1
        differs = (attention(changed, context) != y).any(dim=(0, 2)).nonzero().flatten().tolist()
        assert differs == list(range(position, min(position + window, LENGTH)))


@pytest.mark.parametrize(
    ("options", "positional", "plain", "fast"),
    [
        ({}, NoBias, True, True),
        ({"n_kv_heads": 2}, NoBias, True, True),
        ({"window": LENGTH}, NoBias, True, True),
        ({"window": LENGTH - 1}, NoBias, True, False),
        ({}, TreeBias, True, False),
        ({}, NoBias, False, False),
    ],
)
def test_the_kernel_without_a_mask_is_used_exactly_if_no_mask_is_needed(
    options: dict[str, Any], positional: Any, plain: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    fused = F.scaled_dot_product_attention

    def spy(*tensors: Tensor, **options: Any) -> Tensor:
        calls.append(options)
        return fused(*tensors, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    arithmetic = Arithmetic("cpu", "cpu")
    attention = attention_of("sdpa", arithmetic, **options)
    attention(some_input(arithmetic), context_of(positions_of(arithmetic), positional, trivially_causal=plain))
    assert [(call["is_causal"], call["attn_mask"] is None) for call in calls] == [(fast, fast)]


@both
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_qk_norm_makes_the_output_independent_of_the_scale_of_queries_and_keys(
    norm: str, name: str, arithmetic: Arithmetic
) -> None:
    attention = attention_of(name, arithmetic, n_kv_heads=2, qk_norm={"type": norm, "eps": 1e-12}, qkv_bias=False)
    x, context = some_input(arithmetic), context_of(positions_of(arithmetic), trivially_causal=True)
    before = attention(x, context)
    with torch.no_grad():
        attention.qkv.weight[: 32 + 16] *= 7
    arithmetic.close(attention(x, context), before)
    with torch.no_grad():
        attention.qkv.weight[32 + 16 :] *= 7
    assert not torch.allclose(attention(x, context), before, atol=0.1)


@both
def test_groups_of_query_heads_share_a_key_value_head(name: str, arithmetic: Arithmetic) -> None:
    grouped = attention_of(name, arithmetic, n_kv_heads=2)
    full = attention_of(name, arithmetic, n_kv_heads=4)
    weights = grouped.state_dict()
    for key in ("qkv.weight", "qkv.bias"):
        q, k, v = weights[key].split(grouped.widths)
        k, v = (part.unflatten(0, (2, 8)).repeat_interleave(2, dim=0).flatten(0, 1) for part in (k, v))
        weights[key] = torch.cat([q, k, v])
    full.load_state_dict(weights)
    x, context = some_input(arithmetic), context_of(positions_of(arithmetic), trivially_causal=True)
    arithmetic.close(grouped(x, context), full(x, context))


@both
@pytest.mark.parametrize("qk_norm", [None, "layernorm", "rmsnorm"])
def test_bf16_autocast_trains_and_decodes_near_fp32(name: str, qk_norm: str | None, device: str) -> None:
    spec = small(attention={"type": name, "qk_norm": qk_norm, "n_kv_heads": 2}, positional="rope")
    model = with_large_weights(gptzoo.build(spec)).to(device)
    tokens = tokens_of(model, 2, 6)
    full, _ = model(tokens)
    with torch.autocast(device, torch.bfloat16):
        _, loss = model(tokens, tokens)
        loss.backward()
        states = model.new_states(2, 6)
        model(tokens[:, :4], states=states, no_past=True)
        positions = torch.tensor([[4, 5]], device=device)
        last, _ = model(tokens[:, 4:], positions=positions, states=states)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(last.float(), full[:, 4:], rtol=0.1, atol=0.1)


@pytest.mark.parametrize(("name", "capture"), [("naive", False), ("sdpa", False), ("sdpa", True)])
def test_bfloat16_weights_with_a_float32_score_bias_give_the_float64_output_of_the_same_weights(
    name: str, capture: bool
) -> None:
    attention = attention_of(name, Arithmetic("cpu", "cpu", torch.bfloat16, tolerance=0.05))
    x = some_input(Arithmetic("cpu", "cpu", torch.bfloat16, tolerance=0.05))
    context = context_of(torch.arange(LENGTH)[None], TreeBias, capture=frozenset(["attention"] if capture else []))
    output = attention(x, context)
    y = output.y if capture else output
    assert y.dtype == torch.bfloat16
    expected = reference(attention.double(), x.double(), context, None)
    torch.testing.assert_close(y.double(), expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


def test_a_cache_may_have_lower_precision_than_the_model(device: str) -> None:
    model = with_large_weights(gptzoo.build(small(positional="rope")).eval()).to(device)
    tokens = tokens_of(model, 2, 6)
    states = model.new_states(2, 6, dtype=torch.bfloat16)
    model(tokens[:, :3], states=states, no_past=True)
    logits, _ = model(tokens[:, 3:], positions=torch.tensor([[3, 4, 5]], device=device), states=states)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, model(tokens)[0][:, 3:], rtol=0.05, atol=0.05)


def test_a_subclass_must_implement_attend() -> None:
    class Silent(MultiHeadAttention):
        """Does not implement attend."""

        name = "silent"

    config = gptzoo.load_model_spec(small()).attention
    arithmetic = Arithmetic("cpu", "cpu")
    with pytest.raises(TypeError, match="Silent does not implement attend"):
        Silent(config, DIMS)(some_input(arithmetic), context_of(positions_of(arithmetic)))


def test_the_cache_is_as_wide_as_the_key_value_heads() -> None:
    model = gptzoo.build(small(attention={"type": "sdpa", "n_kv_heads": 1}))
    state = model.new_states(3, 5)[0]["attention"]
    expected = new_cache(3, 5, {"k": (1, 8), "v": (1, 8)}, device="cpu", dtype=torch.float32)
    assert {k: t.shape for k, t in state.items()} == {k: t.shape for k, t in expected.items()}


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@torch.no_grad()
def test_noncausal_attention_attends_to_later_tokens(attention: str, window: int | None) -> None:
    model = with_large_weights(
        gptzoo.build(small(attention={"type": attention, "window": window}, positional="none"))
    ).double()
    module, x = model.blocks[0].attention.eval(), torch.randn(2, 7, 32, dtype=torch.float64)
    positions = torch.arange(7)[None]
    context = gptzoo.ForwardContext(positions, model.positionals[0], causal=False, trivially_causal=True)
    q, k, v = (part.unflatten(-1, (4, 8)).transpose(1, 2) for part in module.qkv(x).split(module.widths, dim=-1))
    scores = q @ k.mT * 8**-0.5
    if window is not None:
        scores = scores.masked_fill((positions.mT - positions).abs() >= window, float("-inf"))
    expected = module.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x, context), expected)
    backwards = module(x.flip(1), context)  # without positions and mask, order is nothing
    torch.testing.assert_close(backwards.flip(1), module(x, context))
