"""Infini-attention compared with the equations of its paper, token by token, and the size of its state."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gptzoo_memory import InfiniAttention
from torch import Tensor

import gptzoo


def sigma(x: Tensor) -> Tensor:
    return torch.where(x > 0, x + 1, x.exp())


def rotated(x: Tensor, position: int) -> Tensor:
    """Rotate the pairs (i, i + half) of a vector by its position."""
    half = len(x) // 2
    rotation = torch.tensor([math.e ** (1j * position * 10000 ** (-i / half)) for i in range(half)])
    pairs = torch.complex(x[:half], x[half:]) * rotation
    return torch.cat([pairs.real, pairs.imag])


def head_of_the_paper(
    q: Tensor, k: Tensor, v: Tensor, beta: float, first: int, length: int, *, delta: bool, rope: bool, slope: float
) -> Tensor:
    """Compute section 2 of the paper for one head and sequence, (T, D), with the first token at position `first`."""
    D = q.shape[1]
    M, z = torch.zeros(D, D, dtype=q.dtype), torch.zeros(D, dtype=q.dtype)
    segments: dict[int, list[int]] = {}
    for t in range(len(q)):
        segments.setdefault((first + t) // length, []).append(t)
    outputs = []
    for number, segment in enumerate(segments.values()):
        for t in segment:
            attended = [s for s in segment if s <= t]
            a, b = (
                (rotated(q[t], first + t) if rope else q[t]),
                [rotated(k[s], first + s) if rope else k[s] for s in attended],
            )
            scores = torch.stack([a @ key / D**0.5 - slope * (t - s) for s, key in zip(attended, b, strict=True)])
            a_dot = sum(w * v[s] for w, s in zip(scores.softmax(0), attended, strict=True))
            a_mem = (sigma(q[t]) @ M) / (sigma(q[t]) @ z) if number else torch.zeros_like(a_dot)  # equation 3
            gate = 1 / (1 + math.exp(-beta))
            outputs.append(gate * a_mem + (1 - gate) * a_dot)  # equation 6
        old_M, old_z = M, z
        for s in segment:
            stored = (
                (sigma(k[s]) @ old_M) / (sigma(k[s]) @ old_z) if delta and number else torch.zeros(D, dtype=q.dtype)
            )
            M = M + torch.outer(sigma(k[s]), v[s] - stored)  # equations 4 and 5
            z = z + sigma(k[s])
    return torch.stack(outputs)


@pytest.mark.parametrize("update", ["linear", "delta"])
@pytest.mark.parametrize("positional", ["rope", "none", "distance"])
@pytest.mark.parametrize(("length", "first"), [(4, 0), (4, 6), (5, 3), (1, 0), (24, 0)])
@torch.inference_mode()
def test_it_equals_the_papers_equations(
    model_of: Any, context_of: Any, update: str, positional: str, length: int, first: int
) -> None:
    attention = {"type": "infini", "segment_length": length, "update": update}
    model = model_of(attention=attention, positional=positional)
    layer, x, positions = (
        model.blocks[0].attention,
        torch.randn(2, 14, 24, dtype=torch.float64),
        torch.arange(14)[None] + first,
    )
    q, k, v = layer.qkv(x).view(2, 14, 3, 4, 6).permute(2, 0, 3, 1, 4)
    heads = torch.stack(
        [
            torch.stack(
                [
                    head_of_the_paper(
                        q[row, head],
                        k[row, head],
                        v[row, head],
                        layer.gate[head].item(),
                        first,
                        length,
                        delta=update == "delta",
                        rope=positional == "rope",
                        slope=(head + 1) / 5 if positional == "distance" else 0.0,
                    )
                    for head in range(4)
                ],
                dim=1,
            )
            for row in range(2)
        ]
    )  # (B, T, H, D)
    expected = layer.out(heads.flatten(2))
    tolerance = {"rtol": 1e-6, "atol": 1e-6}  # rope computes angles in float32
    torch.testing.assert_close(layer(x, context_of(model, positions)), expected, **tolerance)
    if first == 0:
        torch.testing.assert_close(layer(x, context_of(model, positions, trivially_causal=True)), expected, **tolerance)


@pytest.mark.parametrize("update", ["linear", "delta"])
@pytest.mark.parametrize("first", [0, 3, 8])
@torch.inference_mode()
def test_sequences_may_start_at_any_position_and_come_in_any_chunks(
    model_of: Any, tokens_of: Any, update: str, first: int
) -> None:
    model = model_of(attention={"type": "infini", "segment_length": 4, "update": update})
    tokens, positions = tokens_of(19), torch.arange(19)[None] + first
    full, _ = model(tokens, positions=positions)
    for sizes in ([1] * 19, [2, 17], [9, 10], [3, 3, 3, 10]):
        states, parts, begin = model.new_states(2, 30), [], 0
        for size in sizes:
            chunk = slice(begin, begin + size)
            parts.append(model(tokens[:, chunk], positions=positions[:, chunk], states=states, no_past=begin == 0)[0])
            begin += size
        torch.testing.assert_close(torch.cat(parts, dim=1), full)


@pytest.mark.parametrize("update", ["linear", "delta"])
@torch.inference_mode()
def test_the_state_is_the_same_after_prefill_and_after_decoding_token_by_token(
    model_of: Any, tokens_of: Any, update: str
) -> None:
    model = model_of(attention={"type": "infini", "segment_length": 4, "update": update})
    tokens, positions = tokens_of(14), torch.arange(14).expand(2, -1).clone()
    positions[1] = (positions[1] - 5).clamp(min=-1)
    prefilled, decoded = model.new_states(2, 14), model.new_states(2, 14)
    model(tokens, positions=positions, states=prefilled, no_past=True)
    for t in range(14):
        model(tokens[:, t : t + 1], positions=positions[:, t : t + 1], states=decoded, no_past=t == 0)
    for one, other in zip(prefilled, decoded, strict=True):
        for name in ("memory", "pending"):
            torch.testing.assert_close(one["attention"][name], other["attention"][name])


def test_the_state_does_not_grow_with_the_length(spec_of: Any) -> None:
    spec = spec_of(context_length=1000, attention={"type": "infini", "segment_length": 100})
    model = gptzoo.build(spec, device="meta")

    def n_bytes(length: int) -> int:
        states = model.new_states(1, length, dtype=torch.bfloat16)
        return sum(tensor.nbytes for layer in states for tensor in layer["attention"].values())

    keys_and_values, memory = 101 * (2 * 24 * 2 + 8), 2 * 4 * 6 * 7 * 4
    assert n_bytes(1000) == n_bytes(100_000) == 2 * (keys_and_values + memory)


def test_the_memory_is_float32_or_wider(spec_of: Any) -> None:
    layer = gptzoo.build(spec_of(attention="infini"), device="meta").blocks[0].attention
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        state = layer.new_state(1, 8, device="meta", dtype=dtype)
        assert state["k"].dtype == dtype
        assert state["memory"].dtype == state["pending"].dtype == expected


@torch.inference_mode()
def test_the_memory_of_a_bfloat16_model_sums_long_sequences_exactly(model_of: Any, context_of: Any) -> None:
    layer = (model := model_of(attention={"type": "infini", "segment_length": 8})).bfloat16().blocks[0].attention
    x = torch.randn(1, 4096, 24).bfloat16()
    state = layer.new_state(1, 4096, device="cpu", dtype=torch.bfloat16)
    for begin in range(0, 4096, 64):
        layer(
            x[:, begin : begin + 64],
            context_of(model, torch.arange(begin, begin + 64)[None], no_past=begin == 0),
            state,
        )
    keys = layer.qkv(x).view(4096, 3, 4, 6)[:, 1].double()
    normaliser = (state["memory"] + state["pending"])[0, :, :, -1].double()
    torch.testing.assert_close(normaliser, sigma(keys).sum(0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("gate", [-30.0, 30.0])
@torch.inference_mode()
def test_a_closed_gate_ignores_the_memory_and_an_open_gate_ignores_the_segment(
    model_of: Any, context_of: Any, gate: float
) -> None:
    model = model_of(attention={"type": "infini", "segment_length": 4})
    layer, positions, x = model.blocks[0].attention, torch.arange(12)[None], torch.randn(1, 12, 24, dtype=torch.float64)
    layer.gate.fill_(gate)
    y = layer(x, context_of(model, positions, trivially_causal=True))
    early_changed, last_changed = x.clone(), x.clone()
    early_changed[:, 1] += 1
    last_changed[:, 8] += 1  # the first token of the last segment
    ignores_memory = torch.allclose(
        layer(early_changed, context_of(model, positions, trivially_causal=True))[:, 9:], y[:, 9:], atol=1e-9
    )
    ignores_segment = torch.allclose(
        layer(last_changed, context_of(model, positions, trivially_causal=True))[:, 9:], y[:, 9:], atol=1e-9
    )
    assert (ignores_memory, ignores_segment) == (gate < 0, gate > 0)


@torch.inference_mode()
def test_the_memory_does_not_depend_on_positions(model_of: Any, context_of: Any) -> None:
    positions, x = torch.arange(12)[None], torch.randn(1, 12, 24, dtype=torch.float64)
    outputs = []
    for positional in ("rope", "none"):
        model = model_of(attention={"type": "infini", "segment_length": 4}, positional=positional)
        model.blocks[0].attention.gate.fill_(100.0)
        outputs.append(model.blocks[0].attention(x, context_of(model, positions, trivially_causal=True)))
    torch.testing.assert_close(outputs[0], outputs[1])


@torch.inference_mode()
def test_delta_stores_a_repeated_value_once_and_linear_twice(model_of: Any, context_of: Any) -> None:
    positions, x = torch.arange(3)[None], torch.randn(1, 1, 24, dtype=torch.float64).expand(1, 3, 24)
    for update, times in (("linear", 2), ("delta", 1)):
        model = model_of(attention={"type": "infini", "segment_length": 1, "update": update})
        layer = model.blocks[0].attention
        two, one = (layer.new_state(1, 3, device="cpu", dtype=torch.float64) for _ in range(2))
        layer(x, context_of(model, positions, trivially_causal=True), two)  # two complete segments, and a third one
        layer(x[:, :2], context_of(model, positions[:, :2], trivially_causal=True), one)
        torch.testing.assert_close(two["memory"][..., :-1], times * one["memory"][..., :-1])
        torch.testing.assert_close(two["memory"][..., -1], 2 * one["memory"][..., -1])


def test_the_default_segment_is_a_quarter_of_the_context(spec_of: Any) -> None:
    for context_length, expected in ((24, 6), (3, 1)):
        spec = spec_of(context_length=context_length, attention="infini")
        assert gptzoo.build(spec, device="meta").blocks[0].attention.segment_length == expected


def test_a_segment_longer_than_the_context_is_refused(spec_of: Any) -> None:
    message = (
        r"\$\.attention\.segment_length: 25 is longer than context_length 24, so training would never use the memory"
    )
    with pytest.raises(gptzoo.SpecError, match=message):
        gptzoo.load_model_spec(spec_of(attention={"type": "infini", "segment_length": 25}))


def test_it_declares_its_limits(model_of: Any, tokens_of: Any) -> None:
    assert InfiniAttention.supports == {"rotate", "bias", "padding", "d_head"}
    assert not InfiniAttention.supports_rollback
    with pytest.raises(ValueError, match="attention 'infini' does not support documents"):
        model_of(attention="infini")(tokens_of(8), documents=torch.zeros(2, 8, dtype=torch.int64))
