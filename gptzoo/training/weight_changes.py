"""A check that training changes the weights at all.

A learning rate, a gradient norm or a learning-rate decay per layer may be so small that float32 rounds the updates
away. The loss then stays where it was, which looks like a model that does not learn. The check compares weights with
their initial values, so it holds for every optimizer. It keeps a sample of each tensor, not a copy of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import local_shard
from gptzoo.utils.transfer import widest_float

_MAX_SAMPLES = 4096  # elements of a tensor
_UNCHANGED = 2.0**-24  # relative change below the precision of float32
_NOTHING = 1e-6  # relative change of all weights together that no useful run stays below
_MAX_NAMES = 6
_ADVICE = (
    "The updates are too small for float32, or the gradient is zero. Look at optimizer.lr, clip_norm and "
    "optimizer.layer_lr_decay"
)


@dataclass(frozen=True)
class WeightChanges:
    """The changes of the trained parameters since the start of a run."""

    relative: float  # norm of the change of all weights as a fraction of the norm of their initial values
    unchanged: Sequence[str]  # parameters that changed by less than the precision of float32
    n_parameters: int

    @property
    def is_nothing(self) -> bool:
        return self.n_parameters > 0 and (len(self.unchanged) == self.n_parameters or self.relative < _NOTHING)

    def warnings(self, step: int) -> list[str]:
        """Return a warning about weights that training has hardly changed by the end of step number `step`."""
        steps = "1 step" if step == 1 else f"{step:,} steps"
        if self.is_nothing:
            return [f"nothing is trained: {steps} changed the weights by {self.relative:.1g} of their size. {_ADVICE}"]
        if not self.unchanged:
            return []
        n_more = len(self.unchanged) - _MAX_NAMES
        names = ", ".join(self.unchanged[:_MAX_NAMES]) + (f" and {n_more} more" if n_more > 0 else "")
        return [
            f"{len(self.unchanged)} of {self.n_parameters} trained parameters have their initial values after {steps}: "
            f"{names}. {_ADVICE}"
        ]


class InitialWeights:
    """A sample of the initial values of the trained parameters, or of this rank's shards of them."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        self.parameters = {name: p for name, p in parameters.items() if local_shard(p).numel()}
        self.samples = {name: _sample(parameter) for name, parameter in self.parameters.items()}

    def changes(self) -> WeightChanges:
        """Compare the parameters with their initial values."""
        if not self.parameters:  # a rank without elements
            return WeightChanges(0.0, (), 0)
        distances, norms, unchanged = [], [], []
        for name, parameter in self.parameters.items():
            dtype = widest_float(parameter.device)
            initial, now = self.samples[name].to(dtype), _sample(parameter).to(dtype)
            weight = local_shard(parameter).numel() / initial.numel()  # a sample stands for the whole tensor
            distances.append(weight * (now - initial).square().sum())
            norms.append(weight * initial.square().sum())
        squares = torch.stack(distances).tolist(), torch.stack(norms).tolist()
        for name, distance, norm in zip(self.parameters, *squares, strict=True):
            if distance <= _UNCHANGED**2 * norm:
                unchanged.append(name)
        total, total_norm = sum(squares[0]), sum(squares[1])
        relative = (total / total_norm) ** 0.5 if total_norm else float(total > 0)
        return WeightChanges(relative, unchanged, len(self.parameters))


@torch.no_grad()
def _sample(parameter: nn.Parameter) -> Tensor:
    """Return a copy of elements at equal distances. The distance is odd, so it is not that of the rows of a matrix."""
    flat = local_shard(parameter.detach()).reshape(-1)
    return flat[:: -(-flat.numel() // _MAX_SAMPLES) | 1].clone()
