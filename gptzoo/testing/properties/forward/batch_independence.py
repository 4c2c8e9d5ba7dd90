"""Batch independence: a row depends neither on the other rows of its batch nor on its padding."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.model.stack import Stack
from gptzoo.testing.compare import TOLERANCE, first_difference, relative_difference, require_unchanged
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_LENGTH = 8


def check_rows(subject: ModelPartUnderTest) -> str | None:
    """Check that changing a row leaves the others equal bit for bit, and a row alone is the same as in a batch."""
    notes = []
    for training in (False, True):

        def run(model: Stack, training: bool = training) -> tuple[Tensor, Tensor]:
            tokens = subject.tokens(3, _LENGTH)
            changed = torch.cat([tokens[:2], _other_tokens(tokens[2:])])
            torch.manual_seed(0)
            before = _logits(model.train(training), tokens)
            torch.manual_seed(0)
            return before[:2], _logits(model, changed)[:2]

        notes.append(require_unchanged(subject, run, "changing row 2 of the batch" + " in training" * training))
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(3, _LENGTH)
    batch = _logits(model, tokens)
    for row in range(3):
        difference = relative_difference(_logits(model, tokens[[row]]), batch[[row]])
        if difference.max() > TOLERANCE:
            _, token = first_difference(difference, TOLERANCE)
            raise Failed(
                f"row {row} alone and in a batch of 3 rows have logits that differ by {difference.max():.2g} at token "
                f"{token}"
            )
    return next(filter(None, notes), None)


def check_padding(subject: ModelPartUnderTest) -> None:
    """Check that padding on the left (position -1) does not change a row, in one forward pass and with a cache."""
    if subject.kind == "attention" and not subject.supports("padding"):
        raise Skipped("it does not list padding in supports")
    positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7]])
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, _LENGTH)
    require_padding_ids_without_effect(model.train(), tokens, _other_tokens(tokens), positions)
    model.eval()
    without_padding = _logits(model, tokens[:1, 3:])
    results = {
        "in one forward pass": _logits(model, tokens, positions=positions),
        "fed in chunks of [5, 1, 2]": decode(model, tokens, [5, 1, 2], positions=positions),
    }
    for setting, logits in results.items():
        difference = relative_difference(logits[:1, 3:], without_padding)
        if difference.max() > TOLERANCE:
            _, token = first_difference(difference, TOLERANCE)
            raise Failed(
                f"{setting}, a row of 5 tokens with padding on its left differs from the same row without padding by "
                f"{difference.max():.2g} at token {token}"
            )


def require_padding_ids_without_effect(
    model: Stack, tokens: Tensor, other_tokens: Tensor, positions: Tensor, setting: str = ""
) -> None:
    """Raise Failed if the ids at padded positions change the logits of real tokens, or losses and metrics.

    other_tokens: other ids for the padded positions, (B, T) like `tokens`.
    setting: words for the message, with a space before them.
    """
    is_padding = positions < 0
    outputs = AuxiliaryOutputs(), AuxiliaryOutputs()
    logits = []
    for ids, auxiliary in zip((tokens, torch.where(is_padding, other_tokens, tokens)), outputs, strict=True):
        torch.default_generator.manual_seed(0)  # torch.manual_seed also looks for accelerators, which takes long
        logits.append(_logits(model, ids, positions=positions, auxiliary=auxiliary))
    difference = relative_difference(logits[1], logits[0]).masked_fill(is_padding[..., None], 0.0)
    if difference.max() > TOLERANCE:
        row, token = first_difference(difference, TOLERANCE)
        raise Failed(
            f"changing the ids at {int(is_padding[row].sum())} padded positions of {tokens.shape[1]}{setting} changes "
            f"the logits of token {token} in row {row} by {difference.max():.2g}"
        )
    for kind in ("losses", "metrics"):
        before, after = (getattr(auxiliary, kind) for auxiliary in outputs)
        for name in before:
            if relative_difference(after[name], before[name]).max() > TOLERANCE:
                raise Failed(
                    f"changing the ids at padded positions of {len(tokens)} rows of {tokens.shape[1]} tokens changes "
                    f"the {kind} {name}; average over real tokens only"
                )


def _other_tokens(tokens: Tensor) -> Tensor:
    return (tokens + 1) % TINY_MODEL["vocab_size"]


@torch.no_grad()
def _logits(model: Stack, tokens: Tensor, **inputs: Tensor | AuxiliaryOutputs) -> Tensor:
    return model(tokens, **inputs)[0]
