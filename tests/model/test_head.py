"""The head's logits and loss, whole and in chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import Arithmetic, small, with_large_weights
from torch import Tensor
from torch.nn import functional as F

import gptzoo
from gptzoo.model import head as head_module
from gptzoo.model.head import Head
from gptzoo.utils.targets import IGNORED_TARGET

V, C = 7, 6


def setting(arithmetic: Arithmetic, *, tied: bool, bias: bool) -> tuple[Head, Tensor, Tensor, Tensor]:
    """A head, the stream (3, 5, C), an embedding, and targets (3, 5) of which some do not count."""
    generator = torch.Generator().manual_seed(4)
    head = with_large_weights(Head(C, V, tied=tied, bias=bias)).to(arithmetic.device, arithmetic.dtype)
    x, embedding = (
        torch.randn(*shape, generator=generator).to(arithmetic.device, arithmetic.dtype).requires_grad_()
        for shape in ((3, 5, C), (V, C))
    )
    targets = torch.randint(V, (3, 5), generator=generator)
    targets[0, 1:4] = IGNORED_TARGET
    targets[2, 4] = IGNORED_TARGET
    return head, x, embedding, targets.to(arithmetic.device)


def loss_and_gradients(head: Head, x: Tensor, embedding: Tensor, targets: Tensor) -> list[Tensor]:
    inputs = [x, embedding, *head.parameters()]
    seen = gptzoo.AuxiliaryOutputs()
    loss = head.loss(x, embedding, targets, seen)
    loss = sum(seen.losses.values(), start=loss)
    return [loss, *torch.autograd.grad(loss, inputs, materialize_grads=True)]


def watch_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the number of rows is added whenever logits are computed."""
    sizes: list[int] = []
    original = Head._logits

    def watch(self: Head, x: Tensor, *parameters: Any) -> Tensor:
        sizes.append(len(x))
        return original(self, x, *parameters)

    monkeypatch.setattr(Head, "_logits", watch)
    return sizes


forms = pytest.mark.parametrize(("tied", "bias"), [(True, False), (True, True), (False, False), (False, True)])


@forms
def test_the_loss_is_torchs_cross_entropy_over_the_targets_that_count(
    tied: bool, bias: bool, arithmetic: Arithmetic
) -> None:
    head, x, embedding, targets = setting(arithmetic, tied=tied, bias=bias)
    logits = F.linear(x, embedding if tied else head.weight, head.bias)
    arithmetic.close(head(x, embedding), logits)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED_TARGET)
    loss = head.loss(x, embedding, targets, gptzoo.AuxiliaryOutputs())
    assert loss.dtype == arithmetic.dtype
    arithmetic.close(loss, expected)


@forms
@pytest.mark.parametrize("rows", [1, 4, 14])
@pytest.mark.parametrize(("smoothing", "z_loss"), [(0.0, 0.0), (0.1, 0.01)])
def test_the_loss_in_chunks_has_the_same_value_and_gradients(
    rows: int,
    tied: bool,
    bias: bool,
    smoothing: float,
    z_loss: float,
    arithmetic: Arithmetic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Head, "label_smoothing", smoothing)
    monkeypatch.setattr(Head, "z_loss", z_loss)
    whole = loss_and_gradients(*setting(arithmetic, tied=tied, bias=bias))
    monkeypatch.setattr(head_module, "_max_chunk_logits", lambda device: rows * V)
    sizes = watch_chunks(monkeypatch)
    chunked = loss_and_gradients(*setting(arithmetic, tied=tied, bias=bias))
    assert len(sizes) == 2 * -(-15 // rows)  # once forward, once again for the gradient
    assert chunked[0].dtype == whole[0].dtype
    for ours, expected in zip(chunked, whole, strict=True):
        arithmetic.close(ours, expected)


@forms
def test_label_smoothing_is_torchs_and_z_loss_is_the_squared_log_normaliser(
    tied: bool, bias: bool, arithmetic: Arithmetic
) -> None:
    head, x, embedding, targets = setting(arithmetic, tied=tied, bias=bias)
    head.label_smoothing, head.z_loss = 0.2, 0.03
    logits = head(x, embedding).to(torch.promote_types(arithmetic.dtype, torch.float32)).flatten(0, 1)
    seen = gptzoo.AuxiliaryOutputs()
    loss = head.loss(x, embedding, targets, seen)
    arithmetic.close(
        loss, F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED_TARGET)
    )  # comparable with others
    smoothed = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED_TARGET, label_smoothing=0.2)
    arithmetic.close(loss + seen.losses["label_smoothing"], smoothed)
    counted = logits[targets.flatten() != IGNORED_TARGET]
    arithmetic.close(seen.losses["z_loss"], 0.03 * counted.exp().sum(-1).log().square().mean())


def test_evaluation_has_neither_smoothing_nor_z_loss() -> None:
    head, x, embedding, targets = setting(Arithmetic("cpu", "cpu"), tied=True, bias=False)
    head.label_smoothing = head.z_loss = 0.1
    seen = gptzoo.AuxiliaryOutputs()
    head.eval().loss(x, embedding, targets, seen)
    assert not seen.losses


def test_the_loss_is_zero_if_all_targets_are_ignored() -> None:
    head, x, embedding, targets = setting(Arithmetic("cpu", "cpu"), tied=True, bias=False)
    loss = head.loss(x, embedding, torch.full_like(targets, IGNORED_TARGET), gptzoo.AuxiliaryOutputs())
    assert loss.item() == 0.0


def test_no_chunk_is_ever_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "_max_chunk_logits", lambda device: 4 * V)
    sizes = watch_chunks(monkeypatch)
    head, x, embedding, targets = setting(Arithmetic("cpu", "cpu"), tied=True, bias=False)
    loss_and_gradients(head, x, embedding, targets)
    assert max(sizes) == 4
    assert sum(sizes) == 2 * 15  # once forward, once again for the gradient


@pytest.mark.parametrize("frozen", [False, True])
def test_in_bf16_the_gradient_of_the_head_in_many_chunks_is_as_exact_as_in_one(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tokens, vocab_size, width = 4096, 64, 16
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, n_tokens, width, generator=generator).requires_grad_()
    embedding = (0.1 * torch.randn(vocab_size, width, generator=generator)).requires_grad_(not frozen)
    frequencies = torch.arange(1, vocab_size + 1).float().reciprocal()  # as in text
    targets = torch.multinomial(frequencies, n_tokens, replacement=True, generator=generator)[None]
    head = Head(width, vocab_size, tied=True, bias=False)

    def gradients(n_chunks: int, *, bf16: bool) -> list[Tensor]:
        monkeypatch.setattr(head_module, "_max_chunk_logits", lambda device: n_tokens * vocab_size // n_chunks)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = head.loss(x, embedding, targets, gptzoo.AuxiliaryOutputs())
        return list(torch.autograd.grad(loss, [x] if frozen else [x, embedding]))

    exact = gradients(1, bf16=False)
    for whole, chunked, expected in zip(gradients(1, bf16=True), gradients(128, bf16=True), exact, strict=True):
        assert (chunked - expected).norm() < 1.05 * (whole - expected).norm()


def test_a_vocabulary_larger_than_a_chunk_is_processed_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    head, x, embedding, targets = setting(Arithmetic("cpu", "cpu"), tied=True, bias=False)
    expected = head.loss(x, embedding, targets, gptzoo.AuxiliaryOutputs())
    monkeypatch.setattr(head_module, "_max_chunk_logits", lambda device: V - 1)
    torch.testing.assert_close(head.loss(x, embedding, targets, gptzoo.AuxiliaryOutputs()), expected)


def test_the_loss_of_a_bf16_forward_is_summed_in_float32() -> None:
    head, x, embedding, targets = setting(Arithmetic("cpu", "cpu"), tied=True, bias=False)
    loss = head.loss(x.bfloat16(), embedding.bfloat16(), targets, gptzoo.AuxiliaryOutputs())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, head.loss(x, embedding, targets, gptzoo.AuxiliaryOutputs()), rtol=0.02, atol=0.02)


def test_head_bias_is_an_option_of_the_architecture() -> None:
    spec = small(architecture={"type": "decoder", "head_bias": True})
    assert gptzoo.build(spec, device="meta").state_dict()["head.bias"].shape == (13,)
    assert "head.bias" not in gptzoo.build(small(), device="meta").state_dict()
