"""torch's Adafactor, with an update on CUDA that reads no number of the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gptzoo.checkpoint.sharded_tensors import is_dtensor


class AdafactorWithoutWaits(torch.optim.Adafactor):
    """torch's Adafactor. On CUDA, the same update without waits of the host.

    torch reads two norms of every parameter, and the host waits for the GPU each time.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not all(parameter.is_cuda and not is_dtensor(parameter) for parameter in parameters):
            loss: float | None = super().step(closure)
            return loss
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            others: tuple[list[Any], ...] = ([], [], [], [])
            self._init_group(group, params, grads, *others)  # makes the state of new parameters
            for parameter, gradient in zip(params, grads, strict=True):
                _update(parameter, gradient, self.state[parameter], group)
        return loss


def _update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """Update a parameter as `torch.optim.Adafactor` does. `state["step"]` is on the host."""
    eps1, eps2 = group["eps"]
    eps1 = torch.finfo(parameter.dtype).eps if eps1 is None else eps1
    state["step"] += 1
    step = state["step"].item()
    weight = step ** group["beta2_decay"]
    root_mean_square = parameter.norm(2) / parameter.numel() ** 0.5
    alpha = root_mean_square.clamp(min=eps2) * min(group["lr"], 1 / step**0.5)
    if group["weight_decay"] != 0:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
    if gradient.dim() > 1:
        row_var, col_var = state["row_var"], state["col_var"]
        row_var.lerp_(gradient.square().mean(dim=-1, keepdim=True), weight)
        col_var.lerp_(gradient.square().mean(dim=-2, keepdim=True), weight)
        variance = row_var @ col_var / row_var.mean(dim=-2, keepdim=True).clamp(min=eps1)
    else:
        state["variance"].lerp_(gradient.square(), weight)
        variance = state["variance"].clone()
    update = variance.clamp_(min=eps1 * eps1).rsqrt_().mul_(gradient)
    size = update.norm(2) / (update.numel() ** 0.5 * group["d"])
    parameter.sub_(update * (alpha / size.clamp(min=1.0)))
