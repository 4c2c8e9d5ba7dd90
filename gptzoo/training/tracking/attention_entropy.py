"""How widely attention spreads: the entropy of its weights, layer by layer."""

from __future__ import annotations

import torch

from gptzoo.components.sublayer import AuxiliaryOutputs, SublayerOutput
from gptzoo.data.batching.batching import Batch
from gptzoo.model.architecture import Architecture
from gptzoo.training.evaluation.full_pass import on_device
from gptzoo.training.hardware.device import autocast


class _Entropies(AuxiliaryOutputs):
    """Keeps of captured weights (B, H, T, S) their entropy alone, so that no more than one layer's are in memory."""

    def add(self, prefix: str, seen: SublayerOutput | AuxiliaryOutputs) -> None:
        for name, weights in seen.captures.items():
            owner, _, what = f"{prefix}{name}".rpartition(".")
            if what == "attention" and weights.min() >= 0:  # differences of distributions have no entropy
                self.metrics[owner] = torch.special.entr(weights.float()).sum(-1).mean()


def attention_entropy(model: Architecture, batch: Batch, *, precision: str) -> dict[str, float]:
    """Mean entropy (nats) of the weights of each attention that can show them, by its path, over a batch of sequences.

    0 is all on one token, log(n) is evenly over n. Fused kernels show no weights; here the scores are spelled out.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    seen = _Entropies()
    # Not compiled: it is seldom, and of another graph than training.
    with torch.no_grad(), autocast(device, precision), torch.compiler.set_stance("force_eager"):
        model(**on_device(batch, device), capture=("attention",), auxiliary=seen)
    model.train(was_training)
    return {path: value.item() for path, value in seen.metrics.items()}
