"""What a row says depends on nothing but the row: not on its neighbours, nor on what fills it up from the left."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.testing.compare import CLOSE, distance, unchanged, where
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

LENGTH = 8


def rows(subject: PartSubject) -> str | None:
    """Changing one row leaves the others as they were, bit for bit, in training too; a row alone is as in a batch."""
    notes = []
    for training in (False, True):

        def run(model: Any, training: bool = training) -> Any:
            tokens = subject.tokens(3, LENGTH)
            changed = torch.cat([tokens[:2], _other(tokens[2:])])
            torch.manual_seed(0)
            before = _logits(model.train(training), tokens)
            torch.manual_seed(0)
            return before[:2], _logits(model, changed)[:2]

        notes.append(unchanged(subject, run, "changing row 2 of the batch" + " in training" * training))
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(3, LENGTH)
    together = _logits(model, tokens)
    for row in range(3):
        difference = distance(_logits(model, tokens[[row]]), together[[row]])
        if difference.max() > CLOSE:
            _, token = where(difference, CLOSE)
            raise Failed(f"row {row} alone and in a batch of 3 differ by {difference.max():.2g} at token {token}")
    return next(filter(None, notes), None)


def padding(subject: PartSubject) -> str | None:
    """Padding on the left (position -1) changes nothing for the tokens of a row, in one forward and from the cache."""
    if subject.kind == "attention" and "padding" not in subject.component.supports:  # type: ignore[attr-defined]
        raise Skipped("it does not list padding in supports")
    positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7]])
    _ids_do_not_matter(subject, positions)
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, LENGTH)
    alone = _logits(model, tokens[:1, 3:])
    ways = {
        "in one forward": _logits(model, tokens, positions=positions),
        "fed as [5, 1, 2]": decode(model, tokens, [5, 1, 2], positions=positions),
    }
    for way, logits in ways.items():
        difference = distance(logits[:1, 3:], alone)
        if difference.max() > CLOSE:
            _, token = where(difference, CLOSE)
            raise Failed(
                f"{way}, a row of 5 tokens with padding before it differs from the row alone, by "
                f"{difference.max():.2g} at its token {token}"
            )
    return None


def _ids_do_not_matter(subject: PartSubject, positions: Tensor) -> None:
    """What ids stand at padded places shows neither in logits nor in what the sublayers emit."""
    model, tokens = subject.model(dtype=torch.float64).train(), subject.tokens(2, LENGTH)
    seen = AuxiliaryOutputs(), AuxiliaryOutputs()
    filled = torch.where(positions < 0, _other(tokens), tokens)
    logits = []
    for ids, observed in zip((tokens, filled), seen, strict=True):
        torch.manual_seed(0)
        logits.append(_logits(model, ids, positions=positions, auxiliary=observed))
    difference = distance(logits[1], logits[0]).masked_fill((positions < 0)[..., None], 0.0)
    if difference.max() > CLOSE:
        row, token = where(difference, CLOSE)
        raise Failed(
            f"the ids at padded places change the logits of token {token} in row {row}, by {difference.max():.2g}"
        )
    for what in ("losses", "metrics"):
        before, after = (getattr(observed, what) for observed in seen)
        for name in before:
            if distance(after[name], before[name]).max() > CLOSE:
                raise Failed(f"the ids at padded places change the {what} {name}: count real tokens alone")


def _other(tokens: Tensor) -> Tensor:
    return (tokens + 1) % HOST["vocab_size"]


@torch.no_grad()
def _logits(model: Any, tokens: Tensor, **known: Any) -> Tensor:
    return model(tokens, **known)[0]
