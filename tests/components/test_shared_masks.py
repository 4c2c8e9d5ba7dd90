"""The mask of a forward pass, which its layers share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import small, tokens_of

import gptzoo
from gptzoo.components import context as context_module


@pytest.fixture
def n_masks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one entry for each mask that is computed."""
    computed: list[int] = []
    original = context_module.attention_mask

    def count(*args: Any, **options: Any) -> torch.Tensor:
        computed.append(1)
        return original(*args, **options)

    monkeypatch.setattr(context_module, "attention_mask", count)
    return computed


@pytest.mark.parametrize("recompute", [False, True])
def test_layers_with_equal_masks_compute_one(recompute: bool, device: str, n_masks: list[int]) -> None:
    attention = [{"type": "sdpa", "window": 3}, {"type": "sdpa", "window": 3}, {"type": "sdpa", "window": 5}]
    model = gptzoo.build(small(n_layers=6, attention=attention, positional="rope")).to(device)
    for block in model.blocks:
        block.recompute = recompute
    tokens = tokens_of(model, 2, 8)
    documents = torch.zeros_like(tokens)
    model(tokens, tokens, documents=documents)[1].backward()
    assert len(n_masks) == 2  # one for each window


def test_layers_of_a_decode_step_compute_one(device: str, n_masks: list[int]) -> None:
    model = gptzoo.build(small(n_layers=6, positional="rope")).eval().to(device)
    tokens = tokens_of(model, 2, 8)
    with torch.inference_mode():
        expected, _ = model(tokens)
        states = model.new_states(2, 8)
        model(tokens[:, :7], states=states, no_past=True)
        n_masks.clear()
        logits, _ = model(tokens[:, 7:], positions=torch.tensor([[7], [7]]).to(device), states=states)
    assert len(n_masks) == 1
    torch.testing.assert_close(logits, expected[:, 7:], rtol=1e-4, atol=1e-4)


def test_passes_with_other_documents_have_other_masks(device: str) -> None:
    model = gptzoo.build(small(positional="rope")).eval().to(device)
    tokens = tokens_of(model, 1, 8)
    documents = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]).to(device)
    whole, _ = model(tokens)
    packed, _ = model(tokens, documents=documents)
    assert not torch.allclose(whole[:, 4:], packed[:, 4:], atol=1e-3)
    torch.testing.assert_close(whole[:, :4], packed[:, :4])
