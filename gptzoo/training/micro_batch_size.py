"""The automatic micro-batch size: the largest that fits in memory.

One GPU tries full steps. A CPU, and several ranks, estimate from the forward and backward passes of one and of two
sequences, on GPUs also of more: a trial that runs out of memory would kill a process on a CPU, and leave other ranks
waiting in a collective.

The micro-batch size changes the loss by rounding only, but it does change its bits. So a run keeps the size that it
started with.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Sequence

import torch

from gptzoo.checkpoint.sharded_tensors import local_shard
from gptzoo.data.batching.batching import Batching
from gptzoo.errors import InputError
from gptzoo.model.block import eager_blocks
from gptzoo.model.dry_run import LiveBytes
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.step.micro_batch import split_into_micro_batches
from gptzoo.training.step.train_step import TrainStep
from gptzoo.utils.machine_memory import available_bytes

_MEMORY_FRACTION = 0.8  # of the available memory; the rest is for fragmentation and other processes
_GPU_HEADROOM = 0.05  # of the memory of a GPU, kept free in trial steps
_ALLOCATION_ERRORS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA out of memory")
_OPTIMIZER_COPIES = 2  # of the trained parameters, as in AdamW; trials on a GPU use the real optimizer


def resolve_micro_batch_size(
    spec: RunSpec, train_step: TrainStep, batching: Batching, folder: RunFolder, report: Callable[[str], None]
) -> int:
    """Return the number of sequences in a micro-batch. The run folder keeps the result of `auto` for resuming."""
    ranks = train_step.ranks
    n_rows = spec.batch_size // ranks.data_size
    if spec.micro_batch_size != "auto":
        size, reason = min(spec.micro_batch_size or n_rows, n_rows), ""
    else:
        size = ranks.on_main_rank(lambda: folder.read_environment().get("micro_batch_size", 0))
        reason = "chosen when the run started"
        if not size or n_rows % size:
            size, reason = find_micro_batch_size(spec, train_step, batching)
            ranks.on_main_rank(lambda: folder.update_environment(micro_batch_size=size))
    report(f"micro-batch: {size} of {n_rows} sequences{f' (auto: {reason})' if reason else ''}")
    return size


def find_micro_batch_size(spec: RunSpec, train_step: TrainStep, batching: Batching) -> tuple[int, str]:
    """Return the largest micro-batch size that fits in memory and divides a rank's rows, and the reason for a message.

    Restores the model and resets the optimizer. Raises InputError if a GPU has no room for a single sequence.
    """
    if train_step.device.type == "cuda" and train_step.ranks.size == 1:
        size = largest_size_that_runs(
            _halvings(spec.batch_size), lambda size: _run_trial_steps(spec, train_step, batching, size)
        )
        return size, f"the largest of {spec.batch_size} and its halvings that ran"
    return _estimate_size(spec, train_step, batching)


def largest_size_that_runs(sizes: Sequence[int], attempt: Callable[[int], None]) -> int:
    """Return the first of `sizes` whose attempt does not run out of GPU memory. Raises InputError if none fits."""
    for size in sizes:
        try:
            attempt(size)
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
        else:
            return size
        gc.collect()  # the exception and its frames form cycles that hold the tensors of the attempt
        torch.cuda.empty_cache()
    raise InputError(
        "micro_batch_size auto: the GPU has no room for a step with one sequence. Try activation_checkpointing, "
        "bf16, a shorter context_length or a smaller model"
    )


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Return True for torch's own error, and for those of CUDA's libraries, which allocate memory themselves."""
    return isinstance(error, torch.OutOfMemoryError) or any(name in str(error) for name in _ALLOCATION_ERRORS)


def _divisors(number: int) -> list[int]:
    """Return the divisors in descending order."""
    return [divisor for divisor in range(number, 0, -1) if number % divisor == 0]


def _halvings(number: int) -> list[int]:
    """Return divisors from the number down to 1, each the largest that is at most half of the one before."""
    halvings = [number]
    for divisor in _divisors(number):
        if divisor <= halvings[-1] // 2:
            halvings.append(divisor)
    return halvings


# ---------------------------------------------------------------------- trials on one GPU


def _run_trial_steps(spec: RunSpec, train_step: TrainStep, batching: Batching, size: int) -> None:
    """Run two steps, so that everything is allocated that a run needs: gradients, optimizer state, EMA.

    Part of the memory is kept free, because it is fragmented in a run, and libraries need some later.
    """
    # An evaluation of the EMA copies the weights, and so does `watch` in the steps that it measures.
    n_copies = 2 * (spec.ema_decay is not None) + (spec.watch.every is not None)
    reserved = int(_GPU_HEADROOM * torch.cuda.get_device_properties(train_step.device).total_memory)
    reserved += n_copies * sum(parameter.nbytes for parameter in train_step.parameters.values())
    ballast = torch.empty(reserved, dtype=torch.uint8, device=train_step.device)
    # Compiling for unused sizes takes long, and eager blocks need at least as much memory.
    with _restoring(train_step), eager_blocks():
        for _ in range(2):
            batch = batching.train_batch(0, size)
            train_step.accumulate_gradients(split_into_micro_batches(batch, size, pin_memory=True), 0)
            train_step.optimizer.step()
            train_step.zero_grad()
    del ballast
    torch.cuda.empty_cache()


@contextlib.contextmanager
def _restoring(train_step: TrainStep) -> Iterator[None]:
    """Restore weights and buffers and reset the optimizer after the block, even if it raises."""
    tensors = [*train_step.model.parameters(), *train_step.model.buffers()]
    saved_tensors = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    try:
        yield
    finally:
        train_step.zero_grad()
        train_step.reset_optimizer()
        with torch.no_grad():
            for tensor, saved in zip(tensors, saved_tensors, strict=True):
                tensor.copy_(saved)


# ---------------------------------------------------------------------- estimates on a CPU, and for several ranks


def _estimate_size(spec: RunSpec, train_step: TrainStep, batching: Batching) -> tuple[int, str]:
    """Extrapolate from the peak memory of one and of two sequences, which grows linearly with their number.

    On a GPU it grows less once the output head computes the loss in chunks, which are large there. So the memory is
    measured again at the estimated number of sequences, until the estimate no longer grows.
    """
    ranks = train_step.ranks
    # Before the passes, because on a GPU the allocator keeps their memory, which the run uses again.
    available = int(_MEMORY_FRACTION * available_bytes(train_step.device)) // _n_sharing_memory(train_step)
    trained = sum(local_shard(parameter).nbytes for parameter in train_step.parameters.values())
    available -= trained * (_OPTIMIZER_COPIES + (spec.ema_decay is not None))
    n_rows = spec.batch_size // ranks.data_size

    def largest_size(limit: int) -> int:
        return next((size for size in _divisors(n_rows) if size <= limit), 1)

    measured, size = 2, 0
    while True:
        smaller, larger = (_peak_activation_bytes(train_step, batching, n) for n in (measured - 1, measured))
        per_sequence = max(1, larger - smaller)
        left = available - (larger - measured * per_sequence)
        own_limit = left // per_sequence
        limit = -ranks.all_reduce_max(-own_limit)
        size_before, size = size, largest_size(limit)
        if train_step.device.type != "cuda" or size in (size_before, n_rows) or limit <= measured:
            break
        measured = min(limit, n_rows)
    reason = f"{_format_bytes(per_sequence)} per sequence, {_format_bytes(max(0, left))} available"
    if own_limit < 1:
        reason += ", which may be too little"
    return size, reason if size == largest_size(own_limit) else f"{reason}, but less on another rank"


def _n_sharing_memory(train_step: TrainStep) -> int:
    """Return the number of ranks that share the memory: all of a machine on a CPU, one on a GPU."""
    alone = train_step.device.type == "cuda" or train_step.ranks.size == 1
    return 1 if alone else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _peak_activation_bytes(train_step: TrainStep, batching: Batching, size: int) -> int:
    """Return the peak bytes of a forward and a backward pass over `size` rows, model not included."""
    micro_batches = split_into_micro_batches(batching.train_batch(0, size), size)
    if train_step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(train_step.device)
        before = torch.cuda.memory_allocated(train_step.device)
        with eager_blocks():
            train_step.accumulate_gradients(micro_batches, 0)
        train_step.zero_grad()
        return torch.cuda.max_memory_allocated(train_step.device) - before
    with eager_blocks(), LiveBytes([*train_step.model.parameters(), *train_step.model.buffers()]) as live:
        train_step.accumulate_gradients(micro_batches, 0)
    train_step.zero_grad()
    return max(live.peaks)


def _format_bytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
