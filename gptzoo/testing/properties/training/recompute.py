"""Activation checkpointing: recomputing a block for the backward pass gives the same result."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gptzoo.model.stack import Stack
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed


def check_checkpointing(subject: ModelPartUnderTest) -> None:
    """Check that gradients and buffers stay equal bit for bit when every block is recomputed for the backward pass."""
    dropout = subject.dropout_fields()
    expected = _gradients_and_buffers(subject.model(**dropout), subject)
    model = subject.model(**dropout)
    for block in model.blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    actual = _gradients_and_buffers(model, subject)
    for name, tensor in expected.items():
        if not torch.equal(actual[name], tensor):
            difference = (actual[name].double() - tensor.double()).abs().max()
            raise Failed(
                f"with activation checkpointing the {name} differs by {difference:.2g}: recomputing a block does not "
                "repeat its first run"
            )


def _gradients_and_buffers(model: Stack, subject: ModelPartUnderTest) -> dict[str, Tensor]:
    """Return the gradients and buffers after one training step."""
    tokens = subject.tokens(2, TINY_MODEL["context_length"])
    torch.manual_seed(0)
    model.train()(tokens, tokens.roll(-1, 1))[1].backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients | {f"buffer {name}": buffer for name, buffer in model.named_buffers()}
