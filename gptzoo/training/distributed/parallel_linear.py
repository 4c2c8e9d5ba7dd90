"""Linear layers of which each rank of a tensor-parallel group computes a part.

Two autograd functions do the communication, as in Megatron-LM (Shoeybi et al. 2019, arXiv:1909.08053): one at the
entry of the tensor-parallel region and one at its exit. They are f and g in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import ProcessGroup


class _Context(Protocol):
    """The context of an autograd function, with the process group that the backward pass uses."""

    group: ProcessGroup


class _CopyToTensorParallelRegion(torch.autograd.Function):
    """The identity; its backward pass all-reduces the gradient."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        return _all_reduced(gradient, ctx.group), None


class _ReduceFromTensorParallelRegion(torch.autograd.Function):
    """An all-reduce; its backward pass is the identity."""

    @staticmethod
    def forward(ctx: object, x: Tensor, group: ProcessGroup) -> Tensor:
        return _all_reduced(x, group)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


_copy_to_region: Callable[[Tensor, ProcessGroup], Tensor] = _CopyToTensorParallelRegion.apply
_reduce_from_region: Callable[[Tensor, ProcessGroup], Tensor] = _ReduceFromTensorParallelRegion.apply


def _all_reduced(x: Tensor, group: ProcessGroup) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total


class ParallelLinear(nn.Linear):
    """Base class of the linear layers here. It takes over the parameters of a full `nn.Linear`."""

    def __init__(self, linear: nn.Linear, group: ProcessGroup):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.group = group


class ColumnParallelLinear(ParallelLinear):
    """A linear layer whose outputs are split over the ranks."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(_copy_to_region(x, self.group), self.weight, self.bias)


class RowParallelLinear(ParallelLinear):
    """A linear layer whose inputs are split over the ranks. The bias is added once, after the all-reduce."""

    def forward(self, x: Tensor) -> Tensor:
        y = _reduce_from_region(F.linear(x, self.weight), self.group)
        return y if self.bias is None else y + self.bias.to(y.dtype)


@dataclass(frozen=True)
class LocalHeads:
    """A function that slices a score bias (B|1, H, T, S) to the heads of this rank."""

    group: ProcessGroup
    size: int
    rank: int

    def __call__(self, bias: Tensor) -> Tensor:
        return _copy_to_region(bias, self.group).chunk(self.size, dim=1)[self.rank]
