"""Packed documents: documents that share a row do not attend to each other."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.model.stack import Stack
from gptzoo.testing.compare import TOLERANCE, first_difference, relative_difference, require_unchanged
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_N_TOKENS = (3, 4, 1)  # of each document


def check_documents(subject: ModelPartUnderTest) -> str | None:
    """Check that documents packed into one row have the same logits as alone, or packed rows are refused."""
    if subject.kind == "attention" and not subject.supports("documents"):
        return _check_refusal(subject)
    if subject.kind == "architecture" and "documents" not in getattr(subject.component, "accepted_inputs", ()):
        raise Skipped("it does not list documents in accepted_inputs")
    ids = torch.repeat_interleave(torch.tensor(_N_TOKENS))[None]
    first = _N_TOKENS[0]

    def run(model: Stack) -> tuple[Tensor, Tensor]:
        tokens = subject.tokens(1, len(ids[0]))
        changed = torch.where(ids == 0, (tokens + 1) % TINY_MODEL["vocab_size"], tokens)
        return _logits(model, tokens, documents=ids)[:, first:], _logits(model, changed, documents=ids)[:, first:]

    note = require_unchanged(subject, run, f"changing document 0 (tokens 0 to {first - 1} of the row)", first)
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(1, len(ids[0]))
    positions = torch.cat([torch.arange(n_tokens) for n_tokens in _N_TOKENS])[None]
    packed = _logits(model, tokens, documents=ids, positions=positions).split(_N_TOKENS, dim=1)
    for document, (logits, document_tokens) in enumerate(zip(packed, tokens.split(_N_TOKENS, dim=1), strict=True)):
        difference = relative_difference(logits, _logits(model, document_tokens))
        if difference.max() > TOLERANCE:
            _, token = first_difference(difference, TOLERANCE)
            raise Failed(
                f"document {document} of a packed row differs from the same document alone by "
                f"{difference.max():.2g} at its token {token}"
            )
    return note


def _check_refusal(subject: ModelPartUnderTest) -> str:
    tokens = subject.tokens(1, 4)
    try:
        _logits(subject.model(), tokens, documents=torch.zeros_like(tokens))
    except ValueError:
        return "it does not list documents in supports, and packed rows are refused"
    raise Failed("it does not list documents in supports, but packed rows are not refused")


@torch.no_grad()
def _logits(model: Stack, tokens: Tensor, **inputs: Tensor) -> Tensor:
    return model(tokens, **inputs)[0]
