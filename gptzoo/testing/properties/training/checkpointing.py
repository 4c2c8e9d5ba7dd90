"""Activation checkpointing: a block that is run again for its backward pass does what it did before."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed


def checkpointing(subject: PartSubject) -> None:
    """With every block recomputed for the backward pass, gradients and buffers stay equal bit for bit."""
    dropout = subject.with_dropout()
    expected = _trained(subject.model(**dropout), subject)
    model = subject.model(**dropout)
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    found = _trained(model, subject)
    for name, tensor in expected.items():
        if not torch.equal(found[name], tensor):
            difference = (found[name].double() - tensor.double()).abs().max()
            raise Failed(f"with checkpointing the {name} differs, by {difference:.2g}: the second run is not the first")


def _trained(model: Any, subject: PartSubject) -> dict[str, Tensor]:
    """Gradients and buffers after one step."""
    tokens = subject.tokens(2, HOST["context_length"])
    torch.manual_seed(0)
    model.train()(tokens, tokens.roll(-1, 1))[1].backward()
    gradients = {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return gradients | {f"buffer {name}": buffer for name, buffer in model.named_buffers()}
