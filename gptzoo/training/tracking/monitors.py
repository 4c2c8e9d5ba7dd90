"""What is measured of a run beside loss, gradient and speed, as `watch` in its spec says."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gptzoo.data.batching.batching import Batching
from gptzoo.model.accounting import model_costs, parameter_group
from gptzoo.model.architecture import Architecture
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.ranks import ALONE, Ranks
from gptzoo.training.hardware.peak_flops import peak_flops
from gptzoo.training.step.train_step import full_tensor
from gptzoo.training.tracking.attention_entropy import attention_entropy

_LOOKED_AT = 512  # tokens of the validation text; attention weights take memory quadratically
_GIB = 2**30


class Measures:
    """Of one run. All of its processes measure alike: a sharded model is nobody's alone."""

    def __init__(
        self,
        spec: RunSpec,
        model: Architecture,
        parameters: Mapping[str, nn.Parameter],
        *,
        device: torch.device,
        precision: str,
        ranks: Ranks = ALONE,
    ):
        self.spec, self.model, self.device, self.precision, self.ranks = spec, model, device, precision, ranks
        self.every = spec.watch.every
        self.parts: dict[str, list[nn.Parameter]] = {}
        for path, parameter in parameters.items():
            self.parts.setdefault(parameter_group(model, path), []).append(parameter)
        self.before: dict[str, list[Tensor]] | None = None
        self.seconds_per_token = _best_seconds_per_token(spec, device, precision, ranks.size)
        attentions = spec.model.per_layer("attention")
        self.shows_weights = any("capture" in attention.component.supports for attention in attentions)

    def before_update(self, step: int) -> None:
        """Take down the weights, if update number `step` is one to be measured. By now activations are freed."""
        if self.every is not None and step % self.every == 0:
            self.before = {part: [p.detach().clone() for p in own] for part, own in self.parts.items()}

    def after_optimizer_step(self, tokens_per_second: float) -> dict[str, float]:
        """Of an update that was made, or left out."""
        found = {} if self.seconds_per_token is None else {"mfu": tokens_per_second * self.seconds_per_token}
        if self.before is not None:
            found["memory_gib"] = _most_memory(self.device) / _GIB
            for part, before in self.before.items():
                update = _norm([p.detach() - b for p, b in zip(self.parts[part], before, strict=True)])
                norm = _norm(before)
                found[f"update_ratio/{part}"] = update / norm if norm > 0 else 0.0
            self.before = None
        return found

    def at_evaluation(self, batching: Batching) -> dict[str, float]:
        """Of the model as it is, on the beginning of the validation text."""
        if self.every is None or not self.shows_weights:
            return {}
        batch = next(iter(batching.val(_LOOKED_AT)))
        found = attention_entropy(self.model, batch, precision=self.precision)
        if self.ranks.tensor > 1:  # each has looked at its own heads
            sums = self.ranks.sums(*found.values())
            found = {path: value / self.ranks.size for path, value in zip(found, sums, strict=True)}
        return {f"attention_entropy/{path}": value for path, value in found.items()}


def _norm(tensors: list[Tensor]) -> float:
    return float(full_tensor(torch.nn.utils.get_total_norm(tensors)).item())


def _most_memory(device: torch.device) -> int:
    """Bytes: the most that tensors have taken of a GPU, or that the process has had resident, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _best_seconds_per_token(spec: RunSpec, device: torch.device, precision: str, n_ranks: int) -> float | None:
    """Of devices that do nothing but the model's own products, forward and backward; None where that is not known."""
    given = spec.watch.peak_tflops
    peak = peak_flops(device, precision) if given is None else 1e12 * given
    if peak is None:
        return None
    flops = model_costs(spec.model).flops_per_token
    return None if flops is None else flops.training / (peak * n_ranks)
