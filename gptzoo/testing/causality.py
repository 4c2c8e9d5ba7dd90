"""No token may know what comes after it."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from gptzoo.components.base import Emit
from gptzoo.testing.compare import CLOSE, distance, unchanged
from gptzoo.testing.subject import HOST, PartSubject, step_of
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
    """Where `noncausal` is honoured, tokens of an encoder (`step.causal` False) see later ones, but no padding."""
    if "noncausal" not in subject.component.honours:  # type: ignore[attr-defined]
        raise Skipped("it does not list noncausal in honours")
    model = subject.model(dtype=torch.float64)
    attention = model.blocks[0].attention
    x = torch.randn(1, LENGTH, HOST["d_model"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changed = torch.cat([x[:, :-1], -x[:, -1:]], dim=1)
    positions = torch.arange(LENGTH)[None]

    def run(x: Tensor, positions: Tensor = positions, plain: bool = False) -> Tensor:
        step = step_of(model, positions, causal=False, plain=plain)
        with torch.no_grad():
            y = attention(x, step)
        return y.y if isinstance(y, Emit) else y

    for plain in (True, False):
        if distance(run(changed, plain=plain), run(x, plain=plain))[:, -2].max() <= CLOSE:
            raise Failed(f"with step.causal False, step.plain {plain}, a token does not see the one right after it")
    if (difference := distance(run(x, plain=True), run(x)).max()) > CLOSE:
        raise Failed(f"with step.causal False, step.plain changes what is computed, by {difference:.2g}")
    padded = torch.where(positions == LENGTH - 1, -1, positions)
    if (difference := distance(run(changed, padded), run(x, padded))[:, :-1].max()) > CLOSE:
        raise Failed(f"with step.causal False, a padded last token shows in those before it, by {difference:.2g}")


_WAYS = [(False, False), (False, True), (True, False)]


@torch.no_grad()
def _logits(model: Any, tokens: Tensor, explicit: bool) -> Tensor:
    torch.manual_seed(0)
    positions = torch.arange(tokens.shape[1])[None] if explicit else None
    return model(tokens, positions=positions)[0]
