"""One run over several processes: who they are, and how the model is spread over them.

Nothing here knows a component. What is replicated is all of the model (torch's DDP), what is sharded is each `Block`
and then what is left (FSDP2), so a part that nobody here has heard of is spread like those that ship.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from gptzoo.errors import GptzooError, InputError
from gptzoo.model.block import Block
from gptzoo.spec.run import ParallelSpec, RunSpec
from gptzoo.training.device import choose_device
from gptzoo.training.ranks import ALONE, Ranks


def launched_rank() -> int:
    """The number that torchrun gave this process; 0 for one that was started by itself."""
    return int(os.environ["RANK"]) if _n_launched() > 1 else 0


@contextlib.contextmanager
def processes(spec: RunSpec) -> Iterator[Ranks]:
    """Inside, this process and those that torchrun started with it can talk.

    Raises InputError when there are not as many as the spec has, or when they cannot share the batch evenly.
    """
    size = _n_launched()
    try:
        _check_size(spec, size)
        _check_batch(spec, size)
    except InputError as error:
        error.told_elsewhere = launched_rank() != 0
        raise
    if size == 1:
        yield ALONE
        return
    device = own_device(spec.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="FSDP2-wrapped module .* returned a view tensor"
        )  # the loss, kept as is
        # gloo beside NCCL: what processes agree on is small, and on the CPU it waits for no kernel.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        try:
            yield Ranks(dist.get_rank(), size)
        except GptzooError as error:
            if error.agreed:  # with any other the others are somewhere else, and taking leave would wait for them
                _take_leave()
            raise
        _take_leave()


def own_device(name: str) -> torch.device:
    """The device that this process is to use: each of a machine has a GPU of its own. Raises InputError."""
    chosen = choose_device(name)
    if chosen.type != "cuda" or _n_launched() == 1:
        return chosen
    if chosen.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device {name!r}: is one GPU for several processes; say cuda, and each takes its own")
    return choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")


@dataclass
class Spread:
    """A model as it is trained: `forward` is the model, or what torch has put around it."""

    model: nn.Module
    forward: Any
    ranks: Ranks = ALONE

    @contextlib.contextmanager
    def backward(self, *, last: bool) -> Iterator[None]:
        """Around the passes over a micro-batch: what is whole in each process is summed up after the `last` only."""
        if isinstance(self.forward, nn.parallel.DistributedDataParallel) and not last:
            with self.forward.no_sync():
                yield
            return
        if self.sharded:
            self.forward.set_requires_all_reduce(last)
        yield

    @property
    def sharded(self) -> bool:
        """Whether each process holds but a part of each weight."""
        return self.ranks.size > 1 and self.forward is self.model

    def rest(self) -> None:
        """Give back what forward passes without a backward pass have gathered, before weights change."""
        if self.sharded:
            self.forward.reshard()


def spread(model: nn.Module, parallel: ParallelSpec, ranks: Ranks, device: torch.device) -> Spread:
    """Replicate or shard a model over all the processes. Sharded, its parameters are torch's DTensors from now on.

    Call it after blocks were told to compile and to recompute, and before an optimizer is made. A model to be sharded
    may still be on the CPU: then no device ever holds it whole. Raises InputError for weights that cannot be sharded.
    """
    if ranks.size == 1:
        return Spread(model, model)
    if parallel.shard == 1:
        # Weights begin alike in every process, for they follow from the seed or from one file; nothing is sent around.
        # A part may use some of its weights in one process and not in another, as a router's experts.
        ddp = nn.parallel.DistributedDataParallel(
            model, init_sync=False, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
        )
        return Spread(model, ddp, ranks)
    if scalars := [name for name, parameter in model.named_parameters() if parameter.ndim == 0]:
        raise InputError(
            f"$.parallel.shard: {scalars[0]} is a single number, of which there is nothing to share out; make its "
            "shape (1,), or set shard to 1"
        )
    _shard(model, parallel, ranks, device)
    return Spread(model, model, ranks)


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
    whole: Any = fully_shard(model, mesh=mesh)
    if hasattr(whole, "set_reduce_scatter_unused_params"):  # since torch 2.13; see DDP above
        whole.set_reduce_scatter_unused_params(True)


def _take_leave() -> None:
    dist.barrier()
    # gloo's threads need the interpreter to let go of their last tensors; who ends those threads waits for them with
    # the interpreter in hand. While this one sleeps they can.
    time.sleep(0.1)
    dist.destroy_process_group()


def _n_launched() -> int:
    return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1


def _check_size(spec: RunSpec, size: int) -> None:
    parallel = spec.parallel
    if parallel.replicate == "auto":
        if size % parallel.shard:
            raise InputError(
                f"{spec.name}: $.parallel.shard: {parallel.shard} does not divide the {size} processes there are; "
                f"{_how_to_start(parallel.shard)}"
            )
    elif parallel.replicate * parallel.shard != size:
        wanted = parallel.replicate * parallel.shard
        raise InputError(
            f"{spec.name}: $.parallel: replicate {parallel.replicate} times shard {parallel.shard} is {wanted} "
            f"process{'es' if wanted > 1 else ''}, and {size} {'are' if size > 1 else 'is'} there; "
            f'{_how_to_start(wanted)}, or set replicate to "auto"'
        )


def _how_to_start(size: int) -> str:
    return f"start them with: torchrun --nproc-per-node {size} -m gptzoo train …"


def _check_batch(spec: RunSpec, size: int) -> None:
    if spec.batch_size % size:
        raise InputError(
            f"{spec.name}: $.batch_size: {spec.batch_size} sequences cannot be shared evenly by {size} processes; "
            f"make it a multiple of {size} ({spec.batch_size // size * size or size}, for example)"
        )
    if spec.micro_batch_size == "auto" and size > 1:
        raise InputError(
            f"{spec.name}: $.micro_batch_size: auto is found out by one process alone; with {size}, give the number of "
            "sequences that a process takes at once"
        )
