"""One update of the weights: forward and backward passes over the micro-batches of a batch, clipping, the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.components.sublayer import AuxiliaryOutputs, Sublayer
from gptzoo.data.batching.batching import Batch
from gptzoo.model.architecture import Architecture
from gptzoo.model.head import IGNORE
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.parallelize import ParallelizedModel
from gptzoo.training.hardware.device import autocast
from gptzoo.training.optim.loss_scale import LossScale
from gptzoo.training.step.non_finite import origin_of_gradient, origin_of_non_finite
from gptzoo.utils.seeds import derive

_METRICS = "model/"  # before the names of what sublayers measure


@dataclass(frozen=True)
class MicroBatch:
    """Arguments of one forward pass, in the memory of the host, and what part of its batch they are."""

    inputs: dict[str, Tensor]
    n_targets: int  # that count
    n_all_targets: int  # of the whole batch, of all processes
    number: int  # of this one among those of the batch

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The arguments where the model is."""
        return {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}


def micro_batches(
    batch: Batch, size: int, *, pinned: bool = False, rank: int = 0, n_ranks: int = 1
) -> list[MicroBatch]:
    """A batch in parts of `size` rows; pinned ones travel to a GPU while it computes.

    Of several processes each takes as many rows, the first of them the first rows.
    """
    n_own = len(batch["targets"]) // n_ranks
    own = {name: array[rank * n_own : (rank + 1) * n_own] for name, array in batch.items()}
    before = rank * -(-n_own // size)

    def part(first: int) -> Iterator[tuple[str, Tensor]]:
        for name, array in own.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array[first : first + size]))
            yield name, tensor.pin_memory() if pinned else tensor

    return [
        MicroBatch(
            dict(part(first)),
            n_targets({"targets": own["targets"][first : first + size]}),
            n_targets(batch),
            before + micro,
        )
        for micro, first in enumerate(range(0, n_own, size))
    ]


def n_targets(batch: Batch) -> int:
    """How many targets count."""
    return int(np.count_nonzero(batch["targets"] != IGNORE))


@dataclass(frozen=True)
class Gradient:
    """What the passes over one batch have found; the gradient itself is where torch keeps it, with the parameters."""

    measured: Mapping[str, Tensor]  # train/… and model/…, float64; some components measure lists
    losses: Tensor  # of each micro-batch of all processes, with all that was added to the cross-entropy
    norm: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.norm) and self.losses_are_finite

    @property
    def losses_are_finite(self) -> bool:
        return bool(self.losses.isfinite().all())


class Update:
    """Makes updates. What it does in a step follows from the batch, the step and the seed alone."""

    def __init__(
        self,
        spec: RunSpec,
        model: Architecture | ParallelizedModel,
        parameters: Mapping[str, nn.Parameter],
        *,
        device: torch.device,
        precision: str,
    ):
        self.spread = model if isinstance(model, ParallelizedModel) else ParallelizedModel(model, model)
        self.seed, self.clip_norm = spec.seed, spec.clip_norm
        self.model, self.parameters = self.spread.model, parameters
        self.device, self.precision = device, precision
        self.begin_optimizer(spec)
        self.loss_scale = LossScale(precision == "fp16")
        self.learners = [
            (f"{_METRICS}{path}.", module)
            for path, module in self.model.named_modules()
            if isinstance(module, Sublayer) and type(module).after_optimizer_step is not Sublayer.after_optimizer_step
        ]

    def begin_optimizer(self, spec: RunSpec) -> None:
        """An optimizer that has seen nothing yet."""
        self.optimizer: torch.optim.Optimizer = spec.optimizer.build().create(self.parameters)
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]

    def gradient(self, parts: Sequence[MicroBatch], step: int) -> Gradient:
        """The gradient of the mean loss over all the targets of a batch, whatever micro-batch each is in."""
        sums: dict[str, Tensor] = {}
        losses = []
        for part in parts:
            share = part.n_targets / max(1, part.n_all_targets)
            with self.spread.backward(last=part is parts[-1]):
                loss, measured = self._forward_backward(part, step, share)
            losses.append(loss)
            for name, value in measured.items():
                sums[name] = sums.get(name, 0.0) + share * value
        self.spread.collect_gradients()
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        if self.loss_scale.enabled:
            torch._foreach_mul_(gradients, 1 / self.loss_scale.value)
        norm = full_tensor(torch.nn.utils.get_total_norm(gradients))
        return Gradient(*self.spread.ranks.pooled(sums, torch.stack(losses)), norm.item())

    def apply(self, gradient: Gradient, factor: float) -> None:
        """Clip the gradient and make the update, with `factor` of the peak learning rates."""
        if self.clip_norm is not None:
            parameters = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
            norm = torch.tensor(gradient.norm, device=self.device)
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        self.discard()
        for prefix, module in self.learners:
            own = {k.removeprefix(prefix): v for k, v in gradient.measured.items() if k.startswith(prefix)}
            module.after_optimizer_step(own)

    def discard(self) -> None:
        """Forget the gradient."""
        self.spread.discard_gradients()
        self.optimizer.zero_grad(set_to_none=True)

    def explain(self, gradient: Gradient, parts: Sequence[MicroBatch], step: int) -> tuple[str, range, str]:
        """Of a gradient that is not finite: what is not, of which rows of the batch, and in words where it began."""
        ranks = self.spread.ranks
        n_own = sum(map(_n_rows, parts))
        if gradient.losses_are_finite:
            losses = [partial(self._loss, part, step) for part in parts] if ranks.size == 1 else []
            where = origin_of_gradient(self.model, self.spread.parameters(), losses)
            return f"gradient norm of step {step + 1} is {gradient.norm}", range(n_own * ranks.data_size), where
        number = int(gradient.losses.isfinite().logical_not().nonzero()[0])
        rank, micro = divmod(number, len(parts))
        where = origin_of_non_finite(self.model, self.spread.tensors(), partial(self._loss, parts[micro], step))
        where = ranks.from_rank(rank * ranks.tensor, where)
        first = rank * n_own + sum(map(_n_rows, parts[:micro]))
        rows = range(first, first + _n_rows(parts[micro]))
        return f"loss of step {step + 1} is {gradient.losses[number].item()}", rows, where

    def _forward_backward(self, part: MicroBatch, step: int, share: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradients of one micro-batch, which is `share` of the batch; its loss, and what it measured."""
        loss, seen = self._forward(part, step)
        # Times the number of processes, because torch takes the mean of their gradients.
        (loss * (share * self.loss_scale.value * self.spread.ranks.data_size)).backward()
        extra = {f"train/{name}": value.detach().double() for name, value in seen.losses.items()}
        measured = {"train/loss": loss.detach().double() - sum(extra.values()), **extra}
        measured |= {f"{_METRICS}{name}": value.detach().double() for name, value in seen.metrics.items()}
        return loss.detach(), measured

    def _forward(self, part: MicroBatch, step: int) -> tuple[Tensor, AuxiliaryOutputs]:
        torch.manual_seed(derive(self.seed, "dropout", step, part.number))  # so masks need no state to resume
        seen = AuxiliaryOutputs()
        with autocast(self.device, self.precision):
            _, loss = self.spread.forward(**part.on(self.device), auxiliary=seen)
        return loss, seen

    def _loss(self, part: MicroBatch, step: int) -> Tensor:
        return self._forward(part, step)[0]


def _n_rows(part: MicroBatch) -> int:
    return len(part.inputs["targets"])
