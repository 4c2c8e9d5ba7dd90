"""Documents that are packed into one row do not see each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.testing.compare import CLOSE, distance, unchanged, where
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

SIZES = (3, 4, 1)  # tokens in each document


def documents(subject: PartSubject) -> str | None:
    """Packed documents are kept apart: each is as it is alone. An attention that cannot do that refuses them."""
    if subject.kind == "attention" and "documents" not in subject.component.supports:  # type: ignore[attr-defined]
        return _refused(subject)
    if subject.kind == "architecture" and "documents" not in subject.component.accepted_inputs:  # type: ignore[attr-defined]
        raise Skipped("it does not take documents")
    ids = torch.repeat_interleave(torch.tensor(SIZES))[None]
    first = SIZES[0]

    def run(model: Any) -> Any:
        tokens = subject.tokens(1, len(ids[0]))
        changed = torch.where(ids == 0, (tokens + 1) % HOST["vocab_size"], tokens)
        return tuple(_logits(model, these, documents=ids)[:, first:] for these in (tokens, changed))

    note = unchanged(subject, run, f"changing document 0, which is tokens 0 to {first - 1} of the row,", first)
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(1, len(ids[0]))
    positions = torch.cat([torch.arange(size) for size in SIZES])[None]
    packed = _logits(model, tokens, documents=ids, positions=positions).split(SIZES, dim=1)
    for document, (logits, alone) in enumerate(zip(packed, tokens.split(SIZES, dim=1), strict=True)):
        difference = distance(logits, _logits(model, alone))
        if difference.max() > CLOSE:
            _, token = where(difference, CLOSE)
            raise Failed(
                f"document {document} of a packed row differs from the document alone, by {difference.max():.2g} "
                f"at its token {token}"
            )
    return note


def _refused(subject: PartSubject) -> str:
    tokens = subject.tokens(1, 4)
    try:
        _logits(subject.model(), tokens, documents=torch.zeros_like(tokens))
    except ValueError:
        return "it does not list documents in supports, and packed rows are refused"
    raise Failed("it does not list documents in supports, yet a packed row is not refused")


@torch.no_grad()
def _logits(model: Any, tokens: Tensor, **known: Any) -> Tensor:
    return model(tokens, **known)[0]
