"""The entropy of attention weights: how widely each layer's attention spreads."""

from __future__ import annotations

import torch

from gptzoo.components.sublayer import AuxiliaryOutputs, SublayerOutput
from gptzoo.data.batching.batching import Batch
from gptzoo.model.architecture import Architecture
from gptzoo.model.block import eager_blocks
from gptzoo.training.evaluation.full_pass import batch_to
from gptzoo.training.hardware.device import autocast


class _Entropies(AuxiliaryOutputs):
    """Auxiliary outputs that reduce captured weights (B, H, T, S) to their entropy, one layer at a time."""

    def add(self, prefix: str, other: SublayerOutput | AuxiliaryOutputs) -> None:
        for name, weights in other.captures.items():
            path, _, capture = f"{prefix}{name}".rpartition(".")
            if capture == "attention" and weights.min() >= 0:  # weights of differential attention may be negative
                self.metrics[path] = torch.special.entr(weights.float()).sum(-1).mean()


def attention_entropy(model: Architecture, batch: Batch, *, precision: str) -> dict[str, float]:
    """Return the mean entropy (nats) of the attention weights of a batch, by the path of each attention.

    0 means all weight on one token, log(n) equal weights on n tokens. Fused kernels do not return weights, so the
    scores are computed explicitly here.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    auxiliary = _Entropies()
    with torch.no_grad(), autocast(device, precision), eager_blocks():  # compiling them for capture takes longer
        model(**batch_to(device, batch), capture=("attention",), auxiliary=auxiliary)
    model.train(was_training)
    return {path: value.item() for path, value in auxiliary.metrics.items()}
