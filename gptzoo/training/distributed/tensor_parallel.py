"""A model whose products several processes share, each by the plan that the part itself offers.

What a module holds and computes with is this process's share, a plain tensor: its forward, torch's compiler and DDP see
nothing else. The optimizer, the clipping and the checkpoints see the same memory as torch's DTensors, which mean the
whole: so a norm is that of all, and what multiplies whole matrices gathers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate, Shard

from gptzoo.components.positional import Positional
from gptzoo.components.tensor_parallel import is_in, plan_of
from gptzoo.components.tensor_plan import ColumnParallel, Cut, Replicated, RowParallel, Sharded
from gptzoo.errors import InputError
from gptzoo.model.block import Block
from gptzoo.model.stack import Stack


@dataclass(frozen=True)
class _Part:
    """How one tensor of the model is cut: along `dim`, if at all, after its entries there were put into `order`."""

    dim: int | None = None
    order: Tensor | None = None
    partial: bool = False

    def of(self, tensor: Tensor, n: int, place: int) -> Tensor:
        if self.dim is None:
            return tensor
        ordered = tensor if self.order is None else tensor.index_select(self.dim, self.order)
        return ordered.chunk(n, self.dim)[place].clone()


@dataclass
class Shares:
    """The share that this process has of a model, and the whole that it is a part of."""

    model: nn.Module
    mesh: Any  # DeviceMesh of the processes that share one copy
    parts: Mapping[str, _Part]  # of each parameter and buffer
    whole: dict[str, nn.Parameter] = field(init=False)
    """The parameters, by name, as DTensors in the memory of the shares."""

    def __post_init__(self) -> None:
        self.own = dict(self.model.named_parameters())
        self.whole = {
            name: nn.Parameter(self._as_whole(name, p.detach()), requires_grad=p.requires_grad)
            for name, p in self.own.items()
        }

    @property
    def orders(self) -> dict[str, Tensor]:
        """The order in which rows are held, of the tensors whose shares are no runs of rows."""
        return {name: part.order for name, part in self.parts.items() if part.order is not None}

    def tensors(self) -> dict[str, Tensor]:
        """The model's state dict, as DTensors in the memory of the shares."""
        return {name: self._as_whole(name, tensor) for name, tensor in self.model.state_dict().items()}

    def collect_gradients(self) -> None:
        """Make the gradients of the shares those of the whole. All processes must call it.

        Of what each process has whole the gradient is one sum over the processes, so that copies never drift apart
        where a kernel adds in another order.
        """
        whole = [name for name, p in self.own.items() if self.parts[name].dim is None and p.grad is not None]
        if whole:
            flat = torch.cat([self._weighed(name).flatten() for name in whole])
            dist.all_reduce(flat, group=self.mesh.get_group())
            for name, summed in zip(whole, flat.split([self.own[name].numel() for name in whole]), strict=True):
                self.own[name].grad = summed.view_as(self.own[name])
        for name, parameter in self.own.items():
            self.whole[name].grad = None if parameter.grad is None else self._as_whole(name, parameter.grad)

    def discard_gradients(self) -> None:
        """Forget those of the shares; who updates the whole forgets those of the whole."""
        for parameter in self.own.values():
            parameter.grad = None

    def _weighed(self, name: str) -> Tensor:
        gradient: Any = self.own[name].grad
        return gradient if self.parts[name].partial else gradient / self.mesh.size()

    def _as_whole(self, name: str, tensor: Tensor) -> Any:
        dim = self.parts[name].dim
        return DTensor.from_local(tensor, self.mesh, [Replicate() if dim is None else Shard(dim)], run_check=False)


def share_out(model: nn.Module, mesh: Any, device: torch.device) -> Shares:
    """Cut every sublayer of every block of a model, each by its own plan, and put what is left on the device; the rest
    of the model stays whole in each process.

    Raises InputError for a part that offers no plan, or cannot be shared by so many, RuntimeError for a wrong plan.
    """
    n, place = mesh.size(), mesh.get_local_rank()
    for module in model.modules():
        if isinstance(module, Positional) and "rotate" in module.requires and any(True for _ in module.parameters()):
            raise InputError(
                f"positional {module.name!r} learns how to turn queries and keys, and each process would learn it from "
                "its own heads; take another, or set it to 1"
            )
    parts = {name: _Part() for name, _ in (*model.named_parameters(), *model.named_buffers())}
    for path, sublayer in list(_sublayers(model)):
        for key, cut in plan_of(sublayer, n).items():
            parts |= _apply(model, f"{path}.{key}", cut, parts, mesh)
    for name, part in parts.items():
        _cut(model, name, part, n, place)
    for module in model.modules():
        if isinstance(module, Stack):
            module.own_heads = _OwnHeads(mesh.get_group(), n, place)
    return Shares(model.to(device), mesh, parts)


def _sublayers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, block in model.named_modules():
        if isinstance(block, Block):
            yield from ((f"{path}.{name}", getattr(block, name)) for name in block.names)


def _apply(model: nn.Module, path: str, cut: Cut, tensors: Mapping[str, Any], mesh: Any) -> dict[str, _Part]:
    """Make a module one that computes a share, if the cut is of a module; how each tensor in it is cut."""
    inside = [name for name in tensors if is_in(name, path)]
    if isinstance(cut, Replicated):
        return {name: _Part(partial=cut.partial) for name in inside}
    if isinstance(cut, Sharded):
        return {name: _Part(cut.dim) for name in inside}
    linear = model.get_submodule(path)
    if type(linear) is not nn.Linear:
        raise RuntimeError(f"{path}: its plan for tensor parallelism says {type(cut).__name__}, and it is no nn.Linear")
    made: type[_Shared] = _Column if isinstance(cut, ColumnParallel) else _Row
    parent, _, own = path.rpartition(".")
    setattr(model.get_submodule(parent), own, made(linear, mesh.get_group()))
    if isinstance(cut, RowParallel):
        return {f"{path}.weight": _Part(1)}
    order = None
    if cut.widths is not None:
        if sum(cut.widths) != linear.out_features:
            raise RuntimeError(
                f"{path}: has {linear.out_features} outputs, and its plan for tensor parallelism {cut.widths}"
            )
        order = _order(cut.widths, mesh.size(), path)
    return {name: _Part(0, order) for name in inside}


def _order(widths: tuple[int, ...], n: int, path: str) -> Tensor:
    """Rows of products of these widths that are one matrix, put so that the n-th part of each makes a run."""
    for width in widths:
        if width % n:
            raise InputError(f"{path}: a product of width {width} cannot be shared evenly by {n} processes")
    shares = [rows.chunk(n) for rows in torch.arange(sum(widths)).split(list(widths))]
    return torch.cat([share[place] for place in range(n) for share in shares])


def _cut(model: nn.Module, name: str, part: _Part, n: int, place: int) -> None:
    path, _, own = name.rpartition(".")
    module = model.get_submodule(path)
    tensor = getattr(module, own)
    if part.dim is not None and tensor.shape[part.dim] % n:
        raise InputError(f"{name}: {tensor.shape[part.dim]} entries cannot be shared evenly by {n} processes")
    with torch.no_grad():
        share = part.of(tensor, n, place)
    if isinstance(tensor, nn.Parameter):
        share = nn.Parameter(share, requires_grad=tensor.requires_grad)
    setattr(module, own, share)


# ---------------------------------------------------------------------- what processes tell each other


class _Enter(torch.autograd.Function):
    """What all have alike goes into what each has a share of; on the way back, gradients are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _summed(gradient, ctx.group), None


class _Leave(torch.autograd.Function):
    """What each has added its share to is summed; on the way back, all have the gradient alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        return _summed(x, group)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient, None


def _summed(x: Tensor, group: Any) -> Tensor:
    total = x.contiguous().clone()
    dist.all_reduce(total, group=group)
    return total


class _Shared(nn.Linear):
    """A `Linear` with the parameters of another."""

    def __init__(self, linear: nn.Linear, group: Any):
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.group = group


class _Column(_Shared):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(_enter(x, self.group), self.weight, self.bias)


class _Row(_Shared):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Leave.apply(F.linear(x, self.weight), self.group)
        return y if self.bias is None else y + self.bias.to(y.dtype)


@dataclass(frozen=True)
class _OwnHeads:
    group: Any
    n: int
    place: int

    def __call__(self, bias: Tensor) -> Tensor:
        return _enter(bias, self.group).chunk(self.n, dim=1)[self.place]


_enter: Callable[[Tensor, Any], Tensor] = _Enter.apply
