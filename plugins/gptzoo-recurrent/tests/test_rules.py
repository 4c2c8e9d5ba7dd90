"""The recurrences in chunks compared with loops over positions, and the convolution compared with explicit windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gptzoo_recurrent.accumulate import accumulate
from gptzoo_recurrent.convolution import short_convolution
from gptzoo_recurrent.delta_rule import delta_rule
from torch import Tensor
from torch.nn import functional as F

B, H, D, E = 2, 3, 4, 5
CHUNK = 4
LENGTHS = [
    1,
    2,
    3,
    4,
    5,
    8,
    11,
]  # up to one chunk, and several chunks with and without a remainder


def recurrence_by_loop(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor | None, log_decay: Tensor, starts: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the recurrence position by position: the delta rule with beta, plain sums without it."""
    y = []
    for t in range(q.shape[2]):
        if starts is not None:
            state = torch.where(starts[:, t, None, None, None], 0.0, state)
        state = state * log_decay[:, :, t, None, None].exp()
        update = v[:, :, t]
        if beta is not None:
            stored = torch.einsum("bhd,bhde->bhe", k[:, :, t], state)
            update = beta[:, :, t, None] * (update - stored)
        state = state + torch.einsum("bhd,bhe->bhde", k[:, :, t], update)
        y.append(torch.einsum("bhd,bhde->bhe", q[:, :, t], state))
    return torch.stack(y, dim=2), state


def inputs_of(length: int, *, documents: bool = False, seed: int = 0) -> dict[str, Any]:
    """Return random inputs of both recurrences in float64, with decays from none to nearly complete."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    starts = None
    if documents:
        starts = torch.rand(B, length, generator=g) < 0.3
        starts[:, 0] = False
    strength = torch.tensor([0.0, 0.1, 3.0], dtype=torch.float64)[:, None]
    return {
        "q": normal(B, H, length, D),
        "k": F.normalize(normal(B, H, length, D), dim=-1),
        "v": normal(B, H, length, E),
        "beta": 2 * normal(B, H, length).sigmoid(),
        "log_decay": -strength * normal(B, H, length).exp(),
        "starts": starts,
        "state": normal(B, H, D, E),
    }


def run(rule: str, inputs: dict[str, Any], chunk_size: int | None) -> tuple[Tensor, Tensor]:
    """Compute a recurrence in chunks, or by the loop if there is no chunk size."""
    if rule == "accumulate":
        if chunk_size is None:
            return recurrence_by_loop(**{**inputs, "beta": None})
        return accumulate(*(inputs[name] for name in ("q", "k", "v", "log_decay", "starts", "state")), chunk_size)
    if chunk_size is None:
        return recurrence_by_loop(**inputs)
    return delta_rule(**inputs, chunk_size=chunk_size)


rules = pytest.mark.parametrize("rule", ["accumulate", "delta_rule"])


@rules
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_equal_a_loop_over_positions_in_outputs_and_state(rule: str, length: int, documents: bool) -> None:
    inputs = inputs_of(length, documents=documents)
    for ours, theirs in zip(run(rule, inputs, CHUNK), run(rule, inputs, None), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@rules
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("length", [1, 3, 7])
def test_gradients_of_chunks_equal_the_loop_and_finite_differences(rule: str, length: int, documents: bool) -> None:
    inputs = inputs_of(length, documents=documents)
    names = [name for name in inputs if name != "starts" and not (rule == "accumulate" and name == "beta")]
    leaves = [inputs[name].clone().requires_grad_() for name in names]

    def outputs(chunk_size: int | None, *values: Tensor) -> tuple[Tensor, Tensor]:
        return run(rule, {**inputs, **dict(zip(names, values, strict=True))}, chunk_size)

    weights = [torch.randn_like(x) for x in outputs(None, *leaves)]
    ours, theirs = (torch.autograd.grad(outputs(chunk_size, *leaves), leaves, weights) for chunk_size in (3, None))
    for name, gradient, expected in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10, msg=name)
    assert torch.autograd.gradcheck(lambda *values: outputs(3, *values), leaves, fast_mode=True)


@rules
def test_chunks_of_any_size_and_any_split_of_the_sequence_agree(rule: str) -> None:
    inputs = inputs_of(11)
    whole = run(rule, inputs, 64)
    for first in (1, 4, 9):
        halves, state = [], inputs["state"]
        for part in (slice(0, first), slice(first, 11)):
            inputs_of_half = {name: x[:, :, part] for name, x in inputs.items() if name not in ("starts", "state")}
            y, state = run(rule, {**inputs_of_half, "starts": None, "state": state}, CHUNK)
            halves.append(y)
        torch.testing.assert_close(torch.cat(halves, dim=2), whole[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(state, whole[1], rtol=1e-11, atol=1e-11)


@rules
@pytest.mark.parametrize("strength", [1e-6, 1.0, 80.0, 1e4])
def test_outputs_and_gradients_are_finite_for_any_decay(rule: str, strength: float) -> None:
    inputs = {
        name: x if name == "starts" else x.float() for name, x in inputs_of(70, documents=True).items() if x is not None
    }
    inputs["log_decay"] = torch.full_like(inputs["log_decay"], -strength).requires_grad_()
    y, state = run(rule, inputs, 64)
    (y.square().sum() + state.square().sum()).backward()
    assert y.isfinite().all()
    assert state.isfinite().all()
    assert inputs["log_decay"].grad.isfinite().all()
    expected, _ = run(rule, {n: x if n == "starts" else x.detach().double() for n, x in inputs.items()}, None)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_delta_rule_is_exact_if_all_keys_of_a_chunk_are_equal() -> None:
    inputs = inputs_of(64)
    inputs["k"] = inputs["k"][:, :, :1].expand_as(inputs["k"])
    inputs["beta"], inputs["log_decay"] = (torch.full_like(inputs["beta"], value) for value in (1.0, 0.0))
    single = {name: x if x is None else x.float() for name, x in inputs.items()}
    torch.testing.assert_close(
        run("delta_rule", single, 64)[0].double(), recurrence_by_loop(**inputs)[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("chunk_size", [None, 1, 4, 64])
def test_a_write_strength_of_two_counts_parity_in_the_sign_of_the_state(chunk_size: int | None) -> None:
    """With beta 2 and the value 0, each token with the key flips the state along it; others leave it as it is."""
    flips = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 1, 0], dtype=torch.float64)
    key = F.normalize(torch.randn(D, generator=torch.Generator().manual_seed(2), dtype=torch.float64), dim=0)
    inputs = inputs_of(10)
    inputs["q"] = inputs["k"] = key.expand(B, H, 10, D).contiguous()
    inputs["v"] = torch.zeros_like(inputs["v"])
    inputs["beta"] = 2 * flips.expand(B, H, 10).contiguous()
    inputs["log_decay"] = torch.zeros_like(inputs["log_decay"])
    inputs["state"] = (key[:, None] * torch.ones(E, dtype=torch.float64)).expand(B, H, D, E).contiguous()
    y, _ = run("delta_rule", inputs, chunk_size)
    sign = 1 - 2 * (flips.cumsum(0) % 2)
    torch.testing.assert_close(y, sign[None, None, :, None].expand_as(y))


def test_the_delta_rule_overwrites_the_value_of_a_key_and_accumulate_adds_to_it() -> None:
    key = F.one_hot(torch.tensor([1, 2, 1]), 4).double()[None, None]  # (1, 1, 3, 4)
    value = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 1.0]], dtype=torch.float64)[None, None]
    empty, ones, kept = torch.zeros(1, 1, 4, 2).double(), torch.ones(1, 1, 3).double(), torch.zeros(1, 1, 3).double()
    _, corrected = delta_rule(key, key, value, ones, kept, None, empty, 2)
    _, summed = accumulate(key, key, value, kept, None, empty, 2)
    assert corrected[0, 0, 1].tolist() == [0.0, 1.0]
    assert summed[0, 0, 1].tolist() == [1.0, 1.0]
    assert corrected[0, 0, 2].tolist() == summed[0, 0, 2].tolist() == [5.0, 5.0]


@pytest.mark.parametrize("length", [1, 5, 64, 100])
@pytest.mark.parametrize("theirs", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
def test_the_delta_rule_equals_transformers(theirs: str, length: int) -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    inputs = {name: x if x is None else x.float() for name, x in inputs_of(length).items()}
    by_time = {name: x.transpose(1, 2) for name, x in inputs.items() if name not in ("starts", "state")}
    y, state = getattr(qwen, theirs)(
        by_time["q"],
        by_time["k"],
        by_time["v"],
        g=by_time["log_decay"],
        beta=by_time["beta"],
        initial_state=inputs["state"],
        output_final_state=True,
    )
    ours, our_state = delta_rule(**inputs, chunk_size=64)
    torch.testing.assert_close(ours.transpose(1, 2) * D**-0.5, y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(our_state, state, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- the convolution

W, N_TAPS = 3, 4


def windows(x: Tensor, taps: Tensor, past: Tensor, present: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve with an explicit window per token that holds only inputs of its sequence and document."""
    y, new_past = torch.zeros_like(x), torch.zeros_like(past)
    for row in range(len(x)):
        window = list(past[row])
        for t in range(x.shape[1]):
            if not present[row, t]:
                continue
            if starts[row, t]:
                window = [torch.zeros_like(x[0, 0])] * len(window)
            window.append(x[row, t])
            for lag in range(N_TAPS):
                y[row, t] += taps[:, 0, -1 - lag] * window[-1 - lag]
        new_past[row] = torch.stack(window[-(N_TAPS - 1) :])
    return y, new_past


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_convolution_windows_exclude_padding_and_other_documents(length: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x, past = (torch.randn(5, n, W, generator=g, dtype=torch.float64) for n in (length, N_TAPS - 1))
    taps = torch.randn(W, 1, N_TAPS, generator=g, dtype=torch.float64)
    present = torch.rand(5, length, generator=g) < 0.6
    starts = (torch.rand(5, length, generator=g) < 0.3) & present
    all_present, no_starts = torch.ones_like(present), torch.zeros_like(starts)
    for mask, firsts in ((present, starts), (present, None), (None, starts), (None, None)):
        is_present = all_present if mask is None else mask
        expected, expected_past = windows(x, taps, past, is_present, no_starts if firsts is None else firsts)
        y, new_past = short_convolution(x, taps, past, mask, firsts)
        torch.testing.assert_close(torch.where(is_present[..., None], y, 0.0), expected)
        torch.testing.assert_close(new_past, expected_past)


def test_without_padding_and_documents_it_equals_torchs_depthwise_convolution() -> None:
    x, taps = torch.randn(2, 9, W), torch.randn(W, 1, N_TAPS)
    y, _ = short_convolution(x, taps, x.new_zeros(2, N_TAPS - 1, W), None, None)
    expected = F.conv1d(F.pad(x.mT, (N_TAPS - 1, 0)), taps, groups=W).mT
    torch.testing.assert_close(y, expected)
