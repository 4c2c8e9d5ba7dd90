"""Causality: no token depends on later tokens, except in an encoder."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from gptzoo.components.sublayer import SublayerOutput
from gptzoo.model.stack import Stack
from gptzoo.testing.compare import TOLERANCE, relative_difference, require_unchanged
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL, forward_context
from gptzoo.testing.verdict import Failed, Skipped

_LENGTH = 6
_TRAINING_AND_EXPLICIT_POSITIONS = [(False, False), (False, True), (True, False)]


def check_causality(subject: ModelPartUnderTest) -> str | None:
    """Check that changing a token leaves the logits of all earlier tokens equal bit for bit, in training too."""
    notes: set[str] = set()
    for (training, explicit), token in itertools.product(_TRAINING_AND_EXPLICIT_POSITIONS, range(1, _LENGTH)):

        def run(
            model: Stack, token: int = token, training: bool = training, explicit: bool = explicit
        ) -> tuple[Tensor, Tensor]:
            tokens = subject.tokens(2, _LENGTH)
            changed = tokens.clone()
            changed[:, token] = (tokens[:, token] + 1) % TINY_MODEL["vocab_size"]
            model.train(training)
            return _logits(model, tokens, explicit)[:, :token], _logits(model, changed, explicit)[:, :token]

        setting = " in training" * training + " with explicit positions" * explicit
        notes.add(require_unchanged(subject, run, f"changing token {token} of {_LENGTH}{setting}") or "")
    return max(notes) or None


def check_noncausal(subject: ModelPartUnderTest) -> None:
    """Check that with `context.causal` False a token attends to later tokens, but not to padding."""
    if not subject.supports("noncausal"):
        raise Skipped("it does not list noncausal in supports")
    model = subject.model(dtype=torch.float64)
    attention = model.blocks[0].attention
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, _LENGTH, TINY_MODEL["d_model"], generator=generator, dtype=torch.float64)
    changed = torch.cat([x[:, :-1], -x[:, -1:]], dim=1)
    positions = torch.arange(_LENGTH)[None]

    def run(x: Tensor, positions: Tensor = positions, trivially_causal: bool = False) -> Tensor:
        context = forward_context(model, positions, causal=False, trivially_causal=trivially_causal)
        with torch.no_grad():
            output = attention(x, context)
        return output.y if isinstance(output, SublayerOutput) else output

    for flag in (True, False):
        difference = relative_difference(run(changed, trivially_causal=flag), run(x, trivially_causal=flag))
        if difference[:, -2].max() <= TOLERANCE:
            raise Failed(
                f"with context.causal False and context.trivially_causal {flag}, a token does not attend to the next "
                "token"
            )
    if (difference := relative_difference(run(x, trivially_causal=True), run(x)).max()) > TOLERANCE:
        raise Failed(
            f"with context.causal False, context.trivially_causal changes the output by {difference:.2g}; it may only "
            "select a faster path"
        )
    padded = torch.where(positions == _LENGTH - 1, -1, positions)
    if (difference := relative_difference(run(changed, padded), run(x, padded))[:, :-1].max()) > TOLERANCE:
        raise Failed(
            f"with context.causal False, changing a padded last token changes the output of earlier tokens by "
            f"{difference:.2g}"
        )


@torch.no_grad()
def _logits(model: Stack, tokens: Tensor, explicit_positions: bool) -> Tensor:
    torch.manual_seed(0)
    positions = torch.arange(tokens.shape[1])[None] if explicit_positions else None
    return model(tokens, positions=positions)[0]
