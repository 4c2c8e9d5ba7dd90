"""No token may know what comes after it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from gptzoo.components.sublayer import SublayerOutput
from gptzoo.testing.compare import CLOSE, distance, unchanged
from gptzoo.testing.subject import HOST, PartSubject, context_of
from gptzoo.testing.verdict import Failed, Skipped

LENGTH = 6


def causality(subject: PartSubject) -> str | None:
    """Changing a token leaves the logits of all tokens before it as they were, bit for bit; in training too."""
    notes: set[str] = set()
    for (training, explicit), token in itertools.product(_WAYS, range(1, LENGTH)):

        def run(model: Any, token: int = token, training: bool = training, explicit: bool = explicit) -> Any:
            tokens = subject.tokens(2, LENGTH)
            changed = tokens.clone()
            changed[:, token] = (tokens[:, token] + 1) % HOST["vocab_size"]
            return tuple(_logits(model.train(training), ids, explicit)[:, :token] for ids in (tokens, changed))

        way = " in training" * training + " with explicit positions" * explicit
        notes.add(unchanged(subject, run, f"changing token {token} of {LENGTH}{way}") or "")
    return max(notes) or None


def noncausal(subject: PartSubject) -> None:
    """Where `noncausal` is honoured, tokens of an encoder (`context.causal` False) see later ones, but no padding."""
    if "noncausal" not in subject.component.supports:  # type: ignore[attr-defined]
        raise Skipped("it does not list noncausal in supports")
    model = subject.model(dtype=torch.float64)
    attention = model.blocks[0].attention
    x = torch.randn(1, LENGTH, HOST["d_model"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changed = torch.cat([x[:, :-1], -x[:, -1:]], dim=1)
    positions = torch.arange(LENGTH)[None]

    def run(x: Tensor, positions: Tensor = positions, trivially_causal: bool = False) -> Tensor:
        context = context_of(model, positions, causal=False, trivially_causal=trivially_causal)
        with torch.no_grad():
            y = attention(x, context)
        return y.y if isinstance(y, SublayerOutput) else y

    for plain in (True, False):
        if distance(run(changed, trivially_causal=plain), run(x, trivially_causal=plain))[:, -2].max() <= CLOSE:
            raise Failed(
                f"with step.causal False, step.trivially_causal {plain}, a token does not see the one right after it"
            )
    if (difference := distance(run(x, trivially_causal=True), run(x)).max()) > CLOSE:
        raise Failed(f"with step.causal False, step.trivially_causal changes what is computed, by {difference:.2g}")
    padded = torch.where(positions == LENGTH - 1, -1, positions)
    if (difference := distance(run(changed, padded), run(x, padded))[:, :-1].max()) > CLOSE:
        raise Failed(f"with step.causal False, a padded last token shows in those before it, by {difference:.2g}")


_WAYS = [(False, False), (False, True), (True, False)]


@torch.no_grad()
def _logits(model: Any, tokens: Tensor, explicit: bool) -> Tensor:
    torch.manual_seed(0)
    positions = torch.arange(tokens.shape[1])[None] if explicit else None
    return model(tokens, positions=positions)[0]
