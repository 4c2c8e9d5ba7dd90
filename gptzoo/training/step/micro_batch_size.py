"""The size of micro-batches that fits in memory: tried out on a GPU, reckoned from a small rehearsal on a CPU.

Several processes reckon too, and all take what the one with the least room can: tried out, one would run out of memory
while the others wait for its part of a sum.

The loss does not depend on it but for rounding. The bits do, so a run keeps the size that it began with.
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
from gptzoo.model.dry_run import LiveBytes
from gptzoo.spec.run import RunSpec
from gptzoo.training.hardware.memory import available_bytes
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.step.train_step import Update, micro_batches

_USED = 0.8  # of what is available: allocators hoard, and a machine has other work
_OPTIMIZER_COPIES = 2  # of what is trained, as in AdamW; on a GPU the optimizer itself is tried


def resolve_micro_batch_size(
    spec: RunSpec, update: Update, batching: Batching, folder: RunFolder, say: Callable[[str], None]
) -> int:
    """Sequences of a micro-batch, as the spec has it; what `auto` found when the run began is kept in its folder."""
    ranks = update.spread.ranks
    n_own = spec.batch_size // ranks.data_size
    if spec.micro_batch_size != "auto":
        size, why = min(spec.micro_batch_size or n_own, n_own), ""
    else:
        size, why = ranks.on_main(lambda: folder.environment().get("micro_batch_size", 0)), "found when the run began"
        if not size or n_own % size:
            size, why = fitting_size(spec, update, batching)
            ranks.on_main(lambda: folder.note_environment(micro_batch_size=size))
    say(f"{size} of {n_own} sequences at once{f' (auto: {why})' if why else ''}")
    return size


def fitting_size(spec: RunSpec, update: Update, batching: Batching) -> tuple[int, str]:
    """The largest part of what a process has of a batch that one pass has room for, and in words why.

    It divides what it has. The model is left as it was, and the optimizer is begun anew. Raises InputError when a GPU
    has no room for a single sequence.
    """
    if update.device.type == "cuda" and update.spread.ranks.size == 1:
        size = largest_that_runs(_halves(spec.batch_size), lambda size: _try(spec, update, batching, size))
        return size, f"the largest of {spec.batch_size} and its halves that ran"
    return _reckoned(spec, update, batching)


def largest_that_runs(sizes: Sequence[int], attempt: Callable[[int], None]) -> int:
    """The first of `sizes` whose attempt does not run out of the memory of a GPU. Raises InputError if none is."""
    for size in sizes:
        with contextlib.suppress(torch.OutOfMemoryError):
            attempt(size)
            return size
        gc.collect()  # what the attempt held is in cycles of frames and their exception
        torch.cuda.empty_cache()
    raise InputError(
        "micro_batch_size auto: the GPU has no room for a step with one sequence; try activation_checkpointing, "
        "bf16, a shorter context_length or a smaller model"
    )


def _divisors(number: int) -> list[int]:
    """From the number down to 1."""
    return [divisor for divisor in range(number, 0, -1) if number % divisor == 0]


def _halves(number: int) -> list[int]:
    """From the number down to 1, each the largest divisor that is at most half of the one before."""
    found = [number]
    for divisor in _divisors(number):
        if divisor <= found[-1] // 2:
            found.append(divisor)
    return found


# ---------------------------------------------------------------------- on a GPU


def _try(spec: RunSpec, update: Update, batching: Batching, size: int) -> None:
    """Two gradients with an update between them, so that all is there that a run holds in its steps."""
    copies = sum(parameter.nbytes for parameter in update.parameters.values()) if spec.ema_decay is not None else 0
    averages = torch.empty(copies, dtype=torch.uint8, device=update.device)
    with _undone(spec, update), _eager():
        for _ in range(2):
            update.gradient(micro_batches(batching.train(0, size), size, pinned=True), 0)
            update.optimizer.step()
            update.discard()
    del averages
    torch.cuda.empty_cache()


@contextlib.contextmanager
def _undone(spec: RunSpec, update: Update) -> Iterator[None]:
    """Weights, buffers and the optimizer are afterwards what they were before the first update, whatever happens."""
    tensors = [*update.model.parameters(), *update.model.buffers()]
    before = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    try:
        yield
    finally:
        update.discard()
        update.begin_optimizer(spec)
        with torch.no_grad():
            for tensor, saved in zip(tensors, before, strict=True):
                tensor.copy_(saved)


def _eager() -> contextlib.AbstractContextManager[object]:
    """Blocks are not compiled for sizes that the run will not use; what is compiled needs no more memory."""
    return torch.compiler.set_stance("force_eager")


# ---------------------------------------------------------------------- on a CPU, and with others


def _reckoned(spec: RunSpec, update: Update, batching: Batching) -> tuple[int, str]:
    """From what is alive at once with one row and with two: the rest grows with each row alike."""
    ranks = update.spread.ranks
    one, two = (_rehearsed_bytes(update, batching, size) for size in (1, 2))
    a_row = max(1, two - one)
    trained = sum(local_shard(parameter).nbytes for parameter in update.parameters.values())
    copies = _OPTIMIZER_COPIES + (spec.ema_decay is not None)
    room = int(_USED * available_bytes(update.device)) // _n_sharing(update) - trained * copies - (one - a_row)
    sizes = _divisors(spec.batch_size // ranks.data_size)
    size = next((size for size in sizes if size * a_row <= room), 1)
    why = f"{_in_words(a_row)} a sequence, {_in_words(max(0, room))} for them"
    why = why if size * a_row <= room else f"{why}, which may be too little"
    smallest = -ranks.greatest(-size)
    return smallest, why if smallest == size else f"{why}, but less in another process"


def _n_sharing(update: Update) -> int:
    """How many processes share the memory: that of the host those of a machine, a GPU none."""
    alone = update.device.type == "cuda" or update.spread.ranks.size == 1
    return 1 if alone else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _rehearsed_bytes(update: Update, batching: Batching, size: int) -> int:
    """Most that is alive at once in a forward and a backward pass over `size` rows, beside the model."""
    parts = micro_batches(batching.train(0, size), size)
    if update.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(update.device)
        before = torch.cuda.memory_allocated(update.device)
        with _eager():
            update.gradient(parts, 0)
        update.discard()
        return torch.cuda.max_memory_allocated(update.device) - before
    with _eager(), LiveBytes([*update.model.parameters(), *update.model.buffers()]) as alive:
        update.gradient(parts, 0)
    update.discard()
    return max(alive.peaks)


def _in_words(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MiB"
