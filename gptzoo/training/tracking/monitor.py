"""The metrics that `watch` in a run spec adds: update sizes, memory, MFU and attention entropy."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.data.batching.batching import Batching
from gptzoo.model.accounting import model_costs, parameter_group
from gptzoo.model.architecture import Architecture
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.hardware.peak_flops import peak_flops
from gptzoo.training.tracking.attention_entropy import attention_entropy
from gptzoo.utils.transfer import on_host

_ENTROPY_TOKENS = 512  # of the validation text; the memory of attention weights is quadratic in them
_GIB = 2**30


class Monitor:
    """The measurements of one run. All ranks must call its methods, because they may gather a sharded model."""

    def __init__(
        self,
        spec: RunSpec,
        model: Architecture,
        parameters: Mapping[str, nn.Parameter],
        *,
        device: torch.device,
        precision: str,
        ranks: Ranks = SINGLE_RANK,
    ):
        self.model, self.device, self.precision, self.ranks = model, device, precision, ranks
        self.every = spec.watch.every
        self.parts: dict[str, list[nn.Parameter]] = {}
        for path, parameter in parameters.items():
            self.parts.setdefault(parameter_group(model, path), []).append(parameter)
        self.weights_before: dict[str, list[Tensor]] | None = None
        self.ideal_seconds_per_token = _ideal_seconds_per_token(spec, device, precision, ranks.size)
        attentions = spec.model.per_layer("attention")
        self.captures_weights = any("capture" in attention.component.supports for attention in attentions)

    def measures(self, step: int) -> bool:
        """Return True if the update of step number `step` is to be measured."""
        return self.every is not None and step % self.every == 0

    def before_optimizer_step(self, step: int) -> None:
        """Copy the weights if step number `step` is to be measured. Activations are freed by now."""
        if self.measures(step):
            self.weights_before = {
                part: [p.detach().clone() for p in parameters] for part, parameters in self.parts.items()
            }

    def after_optimizer_step(self, tokens_per_second: float) -> dict[str, float]:
        """Return the metrics of a step, whether its update was made or skipped."""
        metrics = {}
        if self.ideal_seconds_per_token is not None:
            metrics["mfu"] = tokens_per_second * self.ideal_seconds_per_token
        if self.weights_before is not None:
            metrics["memory_gib"] = _peak_memory_bytes(self.device) / _GIB
            norms = []
            for part, before in self.weights_before.items():
                norms.append(_norm([p.detach() - b for p, b in zip(self.parts[part], before, strict=True)]))
                norms.append(_norm(before))
            values = [value.item() for value in on_host(*norms)]
            for part, update_norm, norm in zip(self.weights_before, values[::2], values[1::2], strict=True):
                metrics[f"update_ratio/{part}"] = update_norm / norm if norm > 0 else 0.0
            self.weights_before = None
        return metrics

    def evaluation_metrics(self, batching: Batching) -> dict[str, float]:
        """Return the attention entropies on the start of the validation text."""
        if self.every is None or not self.captures_weights:
            return {}
        batch = next(iter(batching.validation_batches(_ENTROPY_TOKENS)))
        entropies = attention_entropy(self.model, batch, precision=self.precision)
        if self.ranks.tensor_size > 1:  # each rank has its own heads
            sums = self.ranks.all_reduce_sum(*entropies.values())
            entropies = {path: value / self.ranks.size for path, value in zip(entropies, sums, strict=True)}
        return {f"attention_entropy/{path}": value for path, value in entropies.items()}


def _norm(tensors: list[Tensor]) -> Tensor:
    return full_tensor(torch.nn.utils.get_total_norm(tensors))


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of tensors on a GPU, of the resident process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":  # its driver keeps freed memory, and counts no peak
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _ideal_seconds_per_token(spec: RunSpec, device: torch.device, precision: str, n_ranks: int) -> float | None:
    """Return the time per token at peak FLOP/s for the model's own FLOPs, or None if either is unknown."""
    tflops = spec.watch.peak_tflops
    peak = peak_flops(device, precision) if tflops is None else 1e12 * tflops
    if peak is None:
        return None
    flops = model_costs(spec.model, sequence_length=spec.tokens_per_sample).flops_per_token
    return None if flops is None else flops.training / (peak * n_ranks)
