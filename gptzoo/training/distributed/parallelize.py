"""A model over several ranks: replicated (DDP), sharded (FSDP2) or tensor parallel.

DDP replicates the whole model; FSDP2 shards each `Block`, then the rest. Neither depends on the components, so
components of plugins are parallelized like the built-in ones. Tensor parallelism follows each component's own plan
(`tensor_parallel.py`).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gptzoo.checkpoint.model_folder import assign_tensors, load_weights
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.block import Block
from gptzoo.spec.run import ParallelSpec
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.distributed.skipped_parameters import check_all_reduced, may_skip_parameters

if TYPE_CHECKING:
    from gptzoo.training.distributed.tensor_parallel import TensorParallelModel

_DDP_OPTIONS = inspect.signature(DistributedDataParallel).parameters
# torch 2.13 has a new name for the option about buffers, and warns about the old one.
_SYNC_BUFFERS = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in _DDP_OPTIONS)


@dataclass
class ParallelizedModel:
    """A model on this rank, with the operations that depend on the kind of parallelism."""

    model: Architecture
    forward: Callable[..., tuple[Tensor | None, Tensor | None]]
    """The model, or torch's wrapper around it."""
    ranks: Ranks = SINGLE_RANK
    sharded: bool = False
    """True if FSDP2 shards the weights."""
    tensor_parallel: TensorParallelModel | None = None

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the parameters for the optimizer by name; split ones are torch's DTensors."""
        if self.tensor_parallel is None:
            return dict(self.model.named_parameters())
        return self.tensor_parallel.full_parameters

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the tensors of the model for a checkpoint; split ones are torch's DTensors."""
        return self.model.state_dict() if self.tensor_parallel is None else self.tensor_parallel.state_dict()

    @property
    def row_orders(self) -> Mapping[str, Tensor]:
        """The order in which tensors hold their rows, by name, where it is not the model's own order."""
        return {} if self.tensor_parallel is None else self.tensor_parallel.row_orders

    def load(self, folder: Path) -> None:
        """Load the weights of a model folder. Raises FolderError."""
        tensors = None if self.tensor_parallel is None else self.tensor_parallel.state_dict()
        load_weights(self.model, folder, tensors, self.row_orders)

    def assign(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy full tensors into the tensors of the same names. All ranks must call it."""
        targets = None if self.tensor_parallel is None else self.tensor_parallel.state_dict()
        assign_tensors(self.model, tensors, targets, self.row_orders)

    @contextlib.contextmanager
    def gradient_sync(self, *, last: bool) -> Iterator[None]:
        """Reduce the gradients across replicas only in the backward pass of the `last` micro-batch of a batch.

        Raises PluginError if a part skips parameters in that pass, although its `may_skip_parameters` is False.
        """
        if isinstance(self.forward, DistributedDataParallel):
            with contextlib.nullcontext() if last else self.forward.no_sync():
                yield
            if last:
                check_all_reduced(self.forward)
            return
        if self.sharded:
            self.fsdp_module.set_requires_all_reduce(last)
        yield

    def sync_tensor_parallel_gradients(self) -> None:
        """Set the gradients of `parameters()` after the backward passes of a batch, if tensor parallel."""
        if self.tensor_parallel is not None:
            self.tensor_parallel.sync_gradients()

    def zero_grad(self) -> None:
        """Clear the gradients of local shards. `Optimizer.zero_grad` clears those of `parameters()`."""
        if self.tensor_parallel is not None:
            self.tensor_parallel.zero_grad()

    def reshard(self) -> None:
        """Free the weights that forward passes without a backward pass have gathered, before the weights change."""
        if self.sharded:
            self.fsdp_module.reshard()

    @property
    def fsdp_module(self) -> Any:  # noqa: ANN401  fully_shard changes the class of the model
        """The model with FSDP2's methods."""
        return self.forward


def parallelize(model: Architecture, parallel: ParallelSpec, ranks: Ranks, device: torch.device) -> ParallelizedModel:
    """Replicate, shard or split a model over all ranks.

    Call it after `prepare_blocks` and before an optimizer is created. A model that is sharded or tensor parallel
    should still be on the CPU, so that no device ever holds all of it; its parameters become DTensors. Raises
    InputError for weights that cannot be sharded, and for components without a tensor-parallel plan.
    """
    if ranks.size == 1:
        return ParallelizedModel(model, model)
    if parallel.shard == 1:
        return _replicate(model, parallel, ranks, device)
    if scalars := [name for name, parameter in model.named_parameters() if parameter.ndim == 0]:
        raise InputError(
            f"$.parallel.shard: {scalars[0]} is a scalar parameter, which cannot be sharded. Give it the shape (1,), "
            "or set shard to 1"
        )
    _shard(model, parallel, ranks, device)
    return ParallelizedModel(model, model, ranks, sharded=True)


def _replicate(model: Architecture, parallel: ParallelSpec, ranks: Ranks, device: torch.device) -> ParallelizedModel:
    tensor_parallel, group = None, None
    if parallel.tensor > 1:
        from torch.distributed.device_mesh import init_device_mesh

        from gptzoo.training.distributed.tensor_parallel import apply_tensor_parallel

        mesh = init_device_mesh(device.type, (ranks.data_size, parallel.tensor), mesh_dim_names=("replicate", "tensor"))
        try:
            tensor_parallel = apply_tensor_parallel(model, mesh["tensor"], device)
        except InputError as error:
            raise InputError(f"$.parallel.tensor: {parallel.tensor}: {error}") from None
        if ranks.data_size == 1:
            return ParallelizedModel(model, model, ranks, tensor_parallel=tensor_parallel)
        group = mesh["replicate"].get_group()
    # init_sync is off because all ranks start from the same weights: from the same seed or the same file.
    buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
    ddp = DistributedDataParallel(
        model,
        process_group=group,
        init_sync=False,
        find_unused_parameters=may_skip_parameters(model),
        gradient_as_bucket_view=True,
        **buffers,
    )
    return ParallelizedModel(model, ddp, ranks, tensor_parallel=tensor_parallel)


def _shard(model: nn.Module, parallel: ParallelSpec, ranks: Ranks, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh: Any = init_device_mesh(
        device.type, (ranks.size // parallel.shard, parallel.shard), mesh_dim_names=("replicate", "shard")
    )
    mesh = mesh if parallel.shard < ranks.size else mesh["shard"]
    for block in model.modules():
        if isinstance(block, Block):
            fully_shard(block, mesh=mesh)
    sharded: Any = fully_shard(model, mesh=mesh)
    if hasattr(sharded, "set_reduce_scatter_unused_params"):  # new in torch 2.13; like find_unused_parameters
        sharded.set_reduce_scatter_unused_params(True)
