"""Captured attention weights are the weights that the attention uses."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.model.stack import Stack
from gptzoo.testing.compare import TOLERANCE, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_LENGTH = 6


def check_captures(subject: ModelPartUnderTest) -> None:
    """Check that captured attention weights are (B, H, T, S), 0 for masked keys, and sum to at most 1 per query."""
    if not subject.supports("capture"):
        raise Skipped("it does not list capture in supports")
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, _LENGTH)
    with torch.no_grad():
        expected = model(tokens)[0]
        auxiliary = AuxiliaryOutputs()
        logits = model(tokens, capture=["attention"], auxiliary=auxiliary)[0]
    if (difference := relative_difference(logits, expected).max()) > TOLERANCE:
        raise Failed(f"capturing its weights changes the logits by {difference:.2g}")
    for layer in range(TINY_MODEL["n_layers"]):
        weights = _weights_by_position(auxiliary, layer, _LENGTH, _LENGTH)
        _check_weights(weights, layer)
        _check_weights_in_decoding(model, tokens, layer, weights)


def _weights_by_position(auxiliary: AuxiliaryOutputs, layer: int, n_queries: int, n_positions: int) -> Tensor:
    """Return the captured weights as (B, H, T, position), with the keys sorted by position."""
    prefix = f"blocks.{layer}.attention."
    for name in ("attention", "k_pos"):
        if prefix + name not in auxiliary.captures:
            captured = ", ".join(auxiliary.captures) or "nothing"
            raise Failed(f'with "attention" in context.capture, it captures no {name!r}; captured: {captured}')
    weights, k_pos = auxiliary.captures[prefix + "attention"], auxiliary.captures[prefix + "k_pos"]
    n_keys = k_pos.shape[-1]
    shape = (2, TINY_MODEL["n_heads"], n_queries, n_keys)
    if tuple(weights.shape) != shape:
        raise Failed(f"the captured attention has shape {tuple(weights.shape)}; expected (B, H, T, S) = {shape}")
    if not weights.isfinite().all():
        raise Failed("the captured attention is not finite; capture weights, not scores before the softmax")
    positions = k_pos.expand(2, n_keys)
    # Keys that are no token of the row, such as unused cache slots, go to an extra column that is dropped.
    column = torch.where((positions >= 0) & (positions < n_positions), positions, n_positions)
    column = column[:, None, None].expand(shape)
    return weights.new_zeros(*shape[:3], n_positions + 1).scatter_add(-1, column, weights)[..., :n_positions]


def _check_weights(weights: Tensor, layer: int) -> None:
    future = torch.ones(weights.shape[-2:], dtype=torch.bool).triu(1)
    if weights.masked_select(future).any():
        raise Failed(f"in layer {layer} a captured weight is not 0 although the key is after the query")
    if not weights.any():
        raise Failed(f"in layer {layer} all captured weights are 0")
    sums = weights.sum(-1)
    constant = (sums - sums[..., :1]).abs().amax() <= TOLERANCE  # as in a difference of two softmaxes
    if sums.amax() > 1 + TOLERANCE and not constant:
        raise Failed(
            f"in layer {layer} the captured weights of a query sum to between {sums.amin():.3g} and {sums.amax():.3g}; "
            "expected at most 1, or the same sum for every query"
        )


@torch.no_grad()
def _check_weights_in_decoding(model: Stack, tokens: Tensor, layer: int, expected: Tensor) -> None:
    states = model.new_states(2, _LENGTH)
    for token in range(_LENGTH):
        auxiliary = AuxiliaryOutputs()
        position = torch.tensor([[token]])
        model(tokens[:, [token]], positions=position, states=states, capture=["attention"], auxiliary=auxiliary)
        weights = _weights_by_position(auxiliary, layer, 1, _LENGTH)
        difference = relative_difference(weights[:, :, 0], expected[:, :, token]).max()
        if difference > TOLERANCE:
            raise Failed(
                f"in layer {layer} the weights of token {token} captured in cached decoding differ from those of one "
                f"forward pass by {difference:.2g}; check that k_pos holds the positions of these keys"
            )
