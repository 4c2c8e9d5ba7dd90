"""Tensor parallelism: each rank computes a part of every product, by the plan of each component.

Modules hold and use this rank's shard, a plain tensor, so their forward pass, torch.compile and DDP see nothing
unusual. The optimizer, gradient clipping and checkpoints see the same memory as DTensors, which stand for the full
tensors: a norm is the norm of the full tensor, and an optimizer that multiplies matrices gathers them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from gptzoo.components.positional import Positional
from gptzoo.components.sublayer import Sublayer
from gptzoo.components.tensor_parallel import is_covered, resolve_plan
from gptzoo.components.tensor_plan import ColumnParallel, Replicated, RowParallel, Sharded, TensorSplit
from gptzoo.errors import InputError
from gptzoo.model.block import Block
from gptzoo.model.stack import Stack
from gptzoo.training.distributed.parallel_linear import ColumnParallelLinear, LocalHeads, RowParallelLinear


@dataclass(frozen=True)
class _Layout:
    """The layout of one tensor: replicated, or split along `dim` after its entries there were put into `order`."""

    dim: int | None = None
    order: Tensor | None = None
    partial: bool = False  # replicated, and each rank has only its part of the gradient

    def local_shard(self, tensor: Tensor, size: int, rank: int) -> Tensor:
        if self.dim is None:
            return tensor
        ordered = tensor if self.order is None else tensor.index_select(self.dim, self.order)
        return ordered.chunk(size, self.dim)[rank].clone()


class TensorParallelModel:
    """This rank's shards of a model, and the full parameters as DTensors in the memory of the shards."""

    def __init__(self, model: nn.Module, mesh: DeviceMesh, layouts: Mapping[str, _Layout]):
        self.model = model
        self.mesh = mesh  # the ranks that share one copy of the model
        self.layouts = layouts  # of each parameter and buffer
        self.local_parameters = dict(model.named_parameters())
        self.full_parameters = {
            name: nn.Parameter(self._as_dtensor(name, p.detach()), requires_grad=p.requires_grad)
            for name, p in self.local_parameters.items()
        }

    @property
    def row_orders(self) -> dict[str, Tensor]:
        """The order in which tensors hold their rows, by name, where a shard is not a run of the full rows."""
        return {name: layout.order for name, layout in self.layouts.items() if layout.order is not None}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the model's state dict as DTensors in the memory of the shards."""
        return {name: self._as_dtensor(name, tensor) for name, tensor in self.model.state_dict().items()}

    def sync_gradients(self) -> None:
        """All-reduce the gradients of replicated parameters, then give `full_parameters` their gradients.

        All ranks must call it. Replicated gradients are averaged even where ranks compute the same, so that copies
        never drift apart when a kernel adds in another order.
        """
        local, layouts = self.local_parameters, self.layouts
        replicated = [name for name, p in local.items() if layouts[name].dim is None and p.grad is not None]
        if replicated:
            flat = torch.cat([self._weighted_gradient(name).flatten() for name in replicated])
            dist.all_reduce(flat, group=self.mesh.get_group())
            sums = flat.split([local[name].numel() for name in replicated])
            for name, summed in zip(replicated, sums, strict=True):
                local[name].grad = summed.view_as(local[name])
        for name, parameter in local.items():
            gradient = parameter.grad
            self.full_parameters[name].grad = None if gradient is None else self._as_dtensor(name, gradient)

    def zero_grad(self) -> None:
        """Drop the gradients of the shards. The optimizer drops those of `full_parameters`."""
        for parameter in self.local_parameters.values():
            parameter.grad = None

    def _weighted_gradient(self, name: str) -> Tensor:
        gradient = self.local_parameters[name].grad
        assert gradient is not None
        return gradient if self.layouts[name].partial else gradient / self.mesh.size()

    def _as_dtensor(self, name: str, tensor: Tensor) -> DTensor:
        dim = self.layouts[name].dim
        return DTensor.from_local(tensor, self.mesh, [Replicate() if dim is None else Shard(dim)], run_check=False)


def apply_tensor_parallel(model: nn.Module, mesh: DeviceMesh, device: torch.device) -> TensorParallelModel:
    """Split every sublayer of every block by its own plan and move the model to the device.

    The rest of the model is replicated. Raises InputError for a component that has no plan or cannot be split over so
    many ranks, and RuntimeError for a wrong plan.
    """
    size, rank = mesh.size(), mesh.get_local_rank()
    for module in model.modules():
        if isinstance(module, Positional) and "rotate" in module.requires and any(True for _ in module.parameters()):
            raise InputError(
                f"positional {module.name!r} has parameters that rotate queries and keys. Each rank would train them "
                "on its own heads only. Choose another positional component, or set parallel.tensor to 1"
            )
    layouts = {name: _Layout() for name, _ in (*model.named_parameters(), *model.named_buffers())}
    for path, sublayer in list(_sublayers(model)):
        for key, split in resolve_plan(sublayer, size).items():
            layouts |= _split_module(model, f"{path}.{key}", split, layouts, mesh)
    for name, layout in layouts.items():
        _keep_local_shard(model, name, layout, size, rank)
    for module in model.modules():
        if isinstance(module, Stack):
            module.slice_bias = LocalHeads(mesh.get_group(), size, rank)
    return TensorParallelModel(model.to(device), mesh, layouts)


def _sublayers(model: nn.Module) -> Iterator[tuple[str, Sublayer]]:
    for path, block in model.named_modules():
        if isinstance(block, Block):
            yield from ((f"{path}.{name}", getattr(block, name)) for name in block.names)


def _split_module(
    model: nn.Module, path: str, split: TensorSplit, tensor_names: Iterable[str], mesh: DeviceMesh
) -> dict[str, _Layout]:
    """Replace a linear layer by its parallel form, if `split` asks for it; return the layout of each tensor below."""
    inside = [name for name in tensor_names if is_covered(name, path)]
    if isinstance(split, Replicated):
        return {name: _Layout(partial=split.partial) for name in inside}
    if isinstance(split, Sharded):
        return {name: _Layout(split.dim) for name in inside}
    linear = model.get_submodule(path)
    if type(linear) is not nn.Linear:
        raise RuntimeError(
            f"{path}: the tensor-parallel plan says {type(split).__name__}, which is for nn.Linear only, "
            f"got {type(linear).__name__}"
        )
    layer = ColumnParallelLinear if isinstance(split, ColumnParallel) else RowParallelLinear
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer(linear, mesh.get_group()))
    if isinstance(split, RowParallel):
        return {f"{path}.weight": _Layout(1)}
    order = None
    if split.widths is not None:
        if sum(split.widths) != linear.out_features:
            raise RuntimeError(
                f"{path}: the widths {split.widths} of the tensor-parallel plan add up to {sum(split.widths)}, but the "
                f"layer has {linear.out_features} outputs"
            )
        order = _interleaved_order(split.widths, mesh.size(), path)
    return {name: _Layout(0, order) for name in inside}


def _interleaved_order(widths: tuple[int, ...], size: int, path: str) -> Tensor:
    """Order the rows of several products in one matrix so that each rank's part of each product is one run."""
    for width in widths:
        if width % size:
            raise InputError(f"{path}: {width} outputs cannot be split evenly over {size} processes")
    parts = [rows.chunk(size) for rows in torch.arange(sum(widths)).split(list(widths))]
    return torch.cat([part[rank] for rank in range(size) for part in parts])


def _keep_local_shard(model: nn.Module, name: str, layout: _Layout, size: int, rank: int) -> None:
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    tensor = getattr(module, attribute)
    if layout.dim is not None and tensor.shape[layout.dim] % size:
        raise InputError(f"{name}: {tensor.shape[layout.dim]} entries cannot be split evenly over {size} processes")
    with torch.no_grad():
        shard = layout.local_shard(tensor, size, rank)
    if isinstance(tensor, nn.Parameter):
        shard = nn.Parameter(shard, requires_grad=tensor.requires_grad)
    setattr(module, attribute, shard)
