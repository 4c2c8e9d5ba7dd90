"""One training step: gradient accumulation over micro-batches, clipping, the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.components.sublayer import AuxiliaryOutputs, Sublayer
from gptzoo.model.architecture import Architecture
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.parallelize import ParallelizedModel
from gptzoo.training.evaluation_weights import swapped_in
from gptzoo.training.hardware.device import autocast
from gptzoo.training.optim.group_state import remember_groups
from gptzoo.training.optim.loss_scale import LossScale
from gptzoo.training.optim.optimizers import Optimizer
from gptzoo.training.step.micro_batch import MicroBatch
from gptzoo.utils.seeds import derive_seed, seed_all_generators
from gptzoo.utils.transfer import on_host, widest_float

_METRICS = "model/"  # prefix of the metrics of sublayers


@dataclass(frozen=True)
class Gradient:
    """Facts about the gradient of one batch. The gradient itself is in `parameter.grad`, where torch keeps it."""

    metrics: Mapping[str, Tensor]  # train/… and model/…, float64 where the device has it; some are lists
    metric_values: Mapping[str, float | list[float]]  # the same on the host
    losses: Tensor  # (n,) of all micro-batches of all ranks, auxiliary losses included; on the host
    norm: float  # before clipping
    total_norm: Tensor  # the same on the device

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.norm) and self.losses_are_finite

    @property
    def losses_are_finite(self) -> bool:
        return bool(self.losses.isfinite().all())


class TrainStep:
    """The computations of a training step. Their results depend on the batch, the step and the seed only."""

    def __init__(
        self,
        spec: RunSpec,
        model: Architecture | ParallelizedModel,
        parameters: Mapping[str, nn.Parameter],
        *,
        device: torch.device,
        precision: str,
    ):
        self.parallelized = model if isinstance(model, ParallelizedModel) else ParallelizedModel(model, model)
        self.ranks = self.parallelized.ranks
        self.model = self.parallelized.model
        self.parameters = parameters  # those that are trained, by name
        self.spec, self.device, self.precision = spec, device, precision
        self.optimizer_component: Optimizer = spec.optimizer.build()
        self.reset_optimizer()
        self.loss_scale = LossScale(precision == "fp16")
        self.sublayers_with_update = {
            f"{_METRICS}{path}.": module
            for path, module in self.model.named_modules()
            if isinstance(module, Sublayer) and type(module).after_optimizer_step is not Sublayer.after_optimizer_step
        }

    def accumulate_gradients(self, micro_batches: Sequence[MicroBatch], step: int) -> Gradient:
        """Accumulate the gradient of the mean loss over all targets of a batch, and all-reduce it over the ranks.

        Each target has the same weight, whichever micro-batch it is in.
        """
        sums: dict[str, Tensor] = {}
        losses = []
        for micro_batch in micro_batches:
            with self.parallelized.gradient_sync(last=micro_batch is micro_batches[-1]):
                loss, metrics = self._forward_backward(micro_batch, step)
            losses.append(loss)
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0.0) + micro_batch.weight * value
        self.parallelized.sync_tensor_parallel_gradients()
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        if self.loss_scale.enabled:
            torch._foreach_mul_(gradients, 1 / self.loss_scale.value)
        norm = full_tensor(torch.nn.utils.get_total_norm(gradients))
        batch_metrics, all_losses = self.ranks.all_reduce_metrics(sums, torch.stack(losses))
        # All numbers that the host needs in this step come in one copy, because a GPU idles while the host waits.
        host_norm, host_losses, *host_values = on_host(norm, all_losses, *batch_metrics.values())
        values = {name: value.tolist() for name, value in zip(batch_metrics, host_values, strict=True)}
        return Gradient(batch_metrics, values, host_losses, host_norm.item(), norm)

    def clip_gradients(self, total_norm: Tensor) -> None:
        """Scale the gradient, which has the norm `total_norm`, down to the spec's `clip_norm` if it is longer."""
        if self.spec.clip_norm is None:
            return
        parameters = [parameter for parameter in self.parameters.values() if parameter.grad is not None]
        torch.nn.utils.clip_grads_with_norm_(parameters, self.spec.clip_norm, total_norm)

    def set_learning_rates(self, lr_factor: float) -> None:
        """Set the learning rate of each parameter group to `lr_factor` times its peak."""
        for group, peak_lr in zip(self.optimizer.param_groups, self.peak_lrs, strict=True):
            group["lr"] = peak_lr * lr_factor

    def optimizer_step(self, step: int = 0) -> None:
        """Update the weights with the gradient and the learning rates that are set.

        Random numbers of an optimizer depend on the seed and the step only: they are the same on all ranks, and in a
        resumed run.
        """
        seed_all_generators(derive_seed(self.spec.seed, "optimizer", step))
        self.optimizer.step()

    def evaluation_weights(self) -> AbstractContextManager[Mapping[str, Tensor] | None]:
        """Return a context in which the model has the weights for evaluation.

        It yields the trained weights if they differ, else None. All ranks must enter it.
        """
        values = self.optimizer_component.evaluation_weights(self.optimizer, self.parameters)
        return swapped_in(self.parameters, values)

    def zero_grad(self) -> None:
        """Drop the gradient."""
        self.parallelized.zero_grad()
        self.optimizer.zero_grad(set_to_none=True)

    def update_sublayers(self, metrics: Mapping[str, Tensor]) -> None:
        """Call `after_optimizer_step` of each sublayer that has it, with the sublayer's own metrics."""
        for prefix, sublayer in self.sublayers_with_update.items():
            sublayer_metrics = {
                name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)
            }
            sublayer.after_optimizer_step(sublayer_metrics)

    def forward(self, micro_batch: MicroBatch, step: int) -> tuple[Tensor, AuxiliaryOutputs]:
        """Run the forward pass; return the loss, auxiliary losses included, and the auxiliary outputs."""
        # Dropout masks depend on the step and the micro-batch only, so a checkpoint need not store a generator.
        torch.manual_seed(derive_seed(self.spec.seed, "dropout", step, micro_batch.index))
        auxiliary = AuxiliaryOutputs()
        with autocast(self.device, self.precision):
            _, loss = self.parallelized.forward(**micro_batch.to(self.device), auxiliary=auxiliary)
        assert loss is not None  # a batch has targets
        return loss, auxiliary

    def _forward_backward(self, micro_batch: MicroBatch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradient of one micro-batch to `parameter.grad`; return its loss and its metrics."""
        loss, auxiliary = self.forward(micro_batch, step)
        # DDP and FSDP average gradients over the ranks, so the loss is multiplied by their number.
        (loss * (micro_batch.weight * self.loss_scale.value * self.ranks.data_size)).backward()
        return loss.detach(), _metrics(loss.detach(), auxiliary)

    def reset_optimizer(self) -> None:
        """Replace the optimizer by a new one without state."""
        self.optimizer = remember_groups(self.optimizer_component.create(self.parameters))
        self.peak_lrs = [group["lr"] for group in self.optimizer.param_groups]


def _metrics(loss: Tensor, auxiliary: AuxiliaryOutputs) -> dict[str, Tensor]:
    """Return the metrics of one micro-batch; `train/loss` is the cross-entropy, without auxiliary losses."""
    dtype = widest_float(loss.device)
    auxiliary_losses = {f"train/{name}": value.detach().to(dtype) for name, value in auxiliary.losses.items()}
    metrics = {"train/loss": loss.to(dtype) - sum(auxiliary_losses.values()), **auxiliary_losses}
    return metrics | {f"{_METRICS}{name}": value.detach().to(dtype) for name, value in auxiliary.metrics.items()}
