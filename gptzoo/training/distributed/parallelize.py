"""One run over several processes: who they are, and how the model is spread over them.

Nothing here knows a component. What is replicated is all of the model (torch's DDP), what is sharded is each `Block`
and then what is left (FSDP2), so a part that nobody here has heard of is spread like those that ship. Products are
shared as each part says itself (`tensor_parallel.py`).
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gptzoo.checkpoint.model_folder import load_weights
from gptzoo.errors import GptzooError, InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.block import Block
from gptzoo.spec.run import ParallelSpec, RunSpec
from gptzoo.training.distributed.ranks import ALONE, Ranks
from gptzoo.training.hardware.device import choose_device

if TYPE_CHECKING:
    from gptzoo.training.distributed.tensor_parallel import Shares


_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # what gloo says


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
            with told_of_the_lost():
                yield Ranks(dist.get_rank(), size, spec.parallel.tensor)
        except Exception as error:
            if getattr(
                error, "agreed", False
            ):  # with any other the others are somewhere else, and taking leave would wait for them
                _take_leave()
            raise
        _take_leave()


@contextlib.contextmanager
def told_of_the_lost() -> Iterator[None]:
    """Raise GptzooError, in words, where torch finds that another process of the run is not there any more."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(words in str(error) for words in _LOST):
            raise
        raise GptzooError(
            f"process {dist.get_rank()}: another process of the run has ended, and may have said why. "
            "Those that are left go too; go on from the last checkpoint with --resume"
        ) from error


def own_device(name: str) -> torch.device:
    """The device that this process is to use: each of a machine has a GPU of its own. Raises InputError."""
    chosen = choose_device(name)
    if chosen.type != "cuda" or _n_launched() == 1:
        return chosen
    if chosen.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device {name!r}: is one GPU for several processes; say cuda, and each takes its own")
    return choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")


@dataclass
class ParallelizedModel:
    """A model as it is trained: `forward` is the model, or what torch has put around it."""

    model: Architecture
    forward: Any
    ranks: Ranks = ALONE
    sharded: bool = False
    """Whether each process holds but a part of each weight (FSDP2)."""
    shares: Shares | None = None
    """Of the products, where processes share them."""

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What an optimizer updates, by name: what processes hold together is whole, as torch's DTensor."""
        return dict(self.model.named_parameters()) if self.shares is None else self.shares.whole

    def tensors(self) -> Mapping[str, Tensor]:
        """What a checkpoint keeps of the model."""
        return self.model.state_dict() if self.shares is None else self.shares.tensors()

    @property
    def orders(self) -> Mapping[str, Tensor]:
        """Of tensors by name: the order in which their rows are held, where that is not the model's own."""
        return {} if self.shares is None else self.shares.orders

    def load(self, folder: Path) -> None:
        """Give the model the weights of a model folder. Raises FolderError."""
        load_weights(self.model, folder, None if self.shares is None else self.shares.tensors(), self.orders)

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

    def collect_gradients(self) -> None:
        """After the passes over a batch: make the gradients of `parameters` what they are of the whole."""
        if self.shares is not None:
            self.shares.collect_gradients()

    def discard_gradients(self) -> None:
        """Forget those of the model."""
        if self.shares is not None:
            self.shares.discard_gradients()

    def rest(self) -> None:
        """Give back what forward passes without a backward pass have gathered, before weights change."""
        if self.sharded:
            self.forward.reshard()


def spread(model: Architecture, parallel: ParallelSpec, ranks: Ranks, device: torch.device) -> ParallelizedModel:
    """Replicate or shard a model over all the processes, or share its products out among them.

    Call it after blocks were told to compile and to recompute, and before an optimizer is made. A model that is cut
    should still be on the CPU: then no device ever holds it whole. Sharded, its parameters are torch's DTensors from
    now on. Raises InputError for weights that cannot be sharded, and for parts that cannot be shared out.
    """
    if ranks.size == 1:
        return ParallelizedModel(model, model)
    if parallel.shard == 1:
        return _replicate(model, parallel, ranks, device)
    if scalars := [name for name, parameter in model.named_parameters() if parameter.ndim == 0]:
        raise InputError(
            f"$.parallel.shard: {scalars[0]} is a single number, of which there is nothing to share out; make its "
            "shape (1,), or set shard to 1"
        )
    _shard(model, parallel, ranks, device)
    return ParallelizedModel(model, model, ranks, sharded=True)


def _replicate(model: Architecture, parallel: ParallelSpec, ranks: Ranks, device: torch.device) -> ParallelizedModel:
    shares, group = None, None
    if parallel.tensor > 1:
        from torch.distributed.device_mesh import init_device_mesh

        from gptzoo.training.distributed.tensor_parallel import share_out

        mesh = init_device_mesh(device.type, (ranks.data_size, parallel.tensor), mesh_dim_names=("replicate", "tensor"))
        try:
            shares = share_out(model, mesh["tensor"], device)
        except InputError as error:
            raise InputError(f"$.parallel.tensor: {parallel.tensor}: {error}") from None
        if ranks.data_size == 1:
            return ParallelizedModel(model, model, ranks, shares=shares)
        group = mesh["replicate"].get_group()
    # Weights begin alike in every process, for they follow from the seed or from one file; nothing is sent around.
    # A part may use some of its weights in one process and not in another, as a router's experts.
    ddp = nn.parallel.DistributedDataParallel(
        model,
        process_group=group,
        init_sync=False,
        broadcast_buffers=False,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
    )
    return ParallelizedModel(model, ddp, ranks, shares=shares)


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
    name, together = ("shard", parallel.shard) if parallel.tensor == 1 else ("tensor", parallel.tensor)
    if parallel.replicate == "auto":
        if size % together:
            raise InputError(
                f"{spec.name}: $.parallel.{name}: {together} does not divide the {size} processes there are; "
                f"{_how_to_start(together)}"
            )
    elif parallel.replicate * together != size:
        wanted = parallel.replicate * together
        raise InputError(
            f"{spec.name}: $.parallel: replicate {parallel.replicate} times {name} {together} is {wanted} "
            f"process{'es' if wanted > 1 else ''}, and {size} {'are' if size > 1 else 'is'} there; "
            f'{_how_to_start(wanted)}, or set replicate to "auto"'
        )


def _how_to_start(size: int) -> str:
    return f"start them with: torchrun --nproc-per-node {size} -m gptzoo train …"


def _check_batch(spec: RunSpec, size: int) -> None:
    size //= spec.parallel.tensor
    if spec.batch_size % size:
        raise InputError(
            f"{spec.name}: $.batch_size: {spec.batch_size} sequences cannot be shared evenly by {size} processes; "
            f"make it a multiple of {size} ({spec.batch_size // size * size or size}, for example)"
        )
