"""What a part shows of itself when it is asked is what it claims to be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

LENGTH = 6


def captures(subject: PartSubject) -> None:
    """Captured attention is (B, H, T, S) beside `k_pos`, 0 where a token cannot see, in rows that sum as weights do."""
    if "capture" not in getattr(subject.component, "supports", ()):
        raise Skipped("it does not list capture in supports")
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, LENGTH)
    with torch.no_grad():
        plain = model(tokens)[0]
        seen = AuxiliaryOutputs()
        asked = model(tokens, capture=["attention"], auxiliary=seen)[0]
    if distance(asked, plain).max() > CLOSE:
        raise Failed(f"being asked for its weights changes its output, by {distance(asked, plain).max():.2g}")
    for layer in range(HOST["n_layers"]):
        whole = _weights(seen, layer, LENGTH, LENGTH)
        _sound(whole, layer)
        _same_when_decoding(model, tokens, layer, whole)


def _weights(seen: AuxiliaryOutputs, layer: int, n_queries: int, n_positions: int) -> Tensor:
    """The captured weights as (B, H, T, position)."""
    prefix = f"blocks.{layer}.attention."
    for name in ("attention", "k_pos"):
        if prefix + name not in seen.captures:
            raise Failed(
                f'asked for "attention", it captures no {name!r}; it has: {", ".join(seen.captures) or "none"}'
            )
    weights, k_pos = seen.captures[prefix + "attention"], seen.captures[prefix + "k_pos"]
    n_seen = k_pos.shape[-1]
    wanted = (2, HOST["n_heads"], n_queries, n_seen)
    if tuple(weights.shape) != wanted:
        raise Failed(f"the captured attention has shape {tuple(weights.shape)}; (B, H, T, S) is {wanted}")
    if not weights.isfinite().all():
        raise Failed("the captured attention is not finite: are these scores, before the softmax?")
    at = k_pos.expand(2, n_seen)
    slot = torch.where((at >= 0) & (at < n_positions), at, n_positions)[:, None, None].expand(wanted)
    return weights.new_zeros(*wanted[:3], n_positions + 1).scatter_add(-1, slot, weights)[..., :n_positions]


def _sound(weights: Tensor, layer: int) -> None:
    unseen = torch.ones(weights.shape[-2:], dtype=torch.bool).triu(1)
    if weights.masked_select(unseen).any():
        raise Failed(f"in layer {layer} a captured weight is not 0 where the key is after the query")
    if not weights.any():
        raise Failed(f"in layer {layer} all captured weights are 0")
    sums = weights.sum(-1)
    constant = (sums - sums[..., :1]).abs().amax() <= CLOSE  # as in a difference of two softmaxes
    if sums.amax() > 1 + CLOSE and not constant:
        raise Failed(
            f"in layer {layer} rows of captured weights sum to {sums.amin():.3g} up to {sums.amax():.3g}, not 1"
        )


@torch.no_grad()
def _same_when_decoding(model: Any, tokens: Tensor, layer: int, whole: Tensor) -> None:
    states = model.new_states(2, LENGTH)
    for token in range(LENGTH):
        seen = AuxiliaryOutputs()
        at = torch.tensor([[token]])
        model(tokens[:, [token]], positions=at, states=states, capture=["attention"], auxiliary=seen)
        weights = _weights(seen, layer, 1, LENGTH)
        difference = distance(weights[:, :, 0], whole[:, :, token]).max()
        if difference > CLOSE:
            raise Failed(
                f"in layer {layer} the weights captured of token {token} when it is decoded from the cache are off "
                f"those of one forward by {difference:.2g}; does k_pos say which keys they are for?"
            )
