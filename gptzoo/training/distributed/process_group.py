"""The process group of a run: its size, device, setup and teardown."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator

import torch
import torch.distributed as dist

from gptzoo.errors import GptzooError, InputError
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.ranks import SINGLE_RANK, Ranks
from gptzoo.training.hardware.device import choose_device

_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # in gloo's messages


def launched_rank() -> int:
    """Return the rank that torchrun gave this process, or 0 if torchrun did not start it."""
    return int(os.environ["RANK"]) if _world_size() > 1 else 0


@contextlib.contextmanager
def process_group(spec: RunSpec) -> Iterator[Ranks]:
    """Join the process group that torchrun started, for the length of the block. A single process needs none.

    Raises InputError if the number of processes is not the spec's, or if they cannot split the batch evenly.
    """
    size = _world_size()
    try:
        _check_world_size(spec, size)
        _check_batch_size(spec, size)
    except InputError as error:
        error.reported_elsewhere = launched_rank() != 0
        raise
    if size == 1:
        yield SINGLE_RANK
        return
    device = rank_device(spec.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with warnings.catch_warnings():
        # The loss is a view, and nothing changes it in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        # gloo besides NCCL: control messages are small, and on the CPU they wait for no kernel.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        try:
            with lost_rank_errors():
                yield Ranks(dist.get_rank(), size, spec.parallel.tensor)
        except Exception as error:
            # After an error on this rank alone, the others are elsewhere, and a barrier would wait for them.
            if getattr(error, "collective", False):
                _leave_process_group()
            raise
        _leave_process_group()


@contextlib.contextmanager
def lost_rank_errors() -> Iterator[None]:
    """Raise GptzooError with a plain message if torch reports that another rank has exited."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(message in str(error) for message in _LOST_PEER):
            raise
        raise GptzooError(
            f"process {dist.get_rank()}: another process of this run has ended; its own message may say why. All "
            "processes of the run end. Continue from the last checkpoint with --resume"
        ) from error


def rank_device(name: str) -> torch.device:
    """Return the device of this rank: the ranks of a machine have one GPU each.

    Raises InputError if `name` is one GPU for several ranks, for ranks without a LOCAL_RANK, and for a device that is
    not available.
    """
    chosen = choose_device(name)
    if chosen.type == "mps" and _world_size() > 1:
        raise InputError(f"device {name!r}: several processes cannot use the one MPS device. Start one, or use cpu")
    if chosen.type != "cuda" or _world_size() == 1:
        return chosen
    if chosen.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
        raise InputError(f"device {name!r}: several processes cannot use one GPU. Use cuda, so that each has its own")
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is None:
        raise InputError(
            "LOCAL_RANK is not set, so each process of this machine would use the same GPU. Start the processes with "
            "torchrun, or set LOCAL_RANK to the number of the process on its machine, such as SLURM_LOCALID"
        )
    return choose_device(f"cuda:{local_rank}")


def _world_size() -> int:
    return int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ and "WORLD_SIZE" in os.environ else 1


def _leave_process_group() -> None:
    dist.barrier()
    # gloo's threads release their last tensors under the GIL, and destroy_process_group waits for them while it
    # holds the GIL. The sleep lets them finish first.
    time.sleep(0.1)
    dist.destroy_process_group()


def _check_world_size(spec: RunSpec, size: int) -> None:
    parallel = spec.parallel
    name, group_size = ("shard", parallel.shard) if parallel.tensor == 1 else ("tensor", parallel.tensor)
    if parallel.replicate == "auto":
        if size % group_size:
            raise InputError(
                f"{spec.name}: $.parallel.{name}: {size} processes cannot be grouped by {group_size}; "
                f"{_torchrun_advice(group_size)}"
            )
    elif parallel.replicate * group_size != size:
        expected = parallel.replicate * group_size
        raise InputError(
            f"{spec.name}: $.parallel: expected {expected} process{'es' if expected > 1 else ''} "
            f"(replicate {parallel.replicate} times {name} {group_size}), got {size}; "
            f'{_torchrun_advice(expected)}, or set replicate to "auto"'
        )


def _torchrun_advice(size: int) -> str:
    return f"start them with: torchrun --nproc-per-node {size} -m gptzoo train …"


def _check_batch_size(spec: RunSpec, size: int) -> None:
    size //= spec.parallel.tensor
    if spec.batch_size % size:
        raise InputError(
            f"{spec.name}: $.batch_size: {spec.batch_size} sequences cannot be split evenly over {size} processes; "
            f"make it a multiple of {size}, such as {spec.batch_size // size * size or size}"
        )
