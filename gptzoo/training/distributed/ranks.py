"""The ranks of a run: the processes that train one model together, and their collectives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gptzoo.errors import GptzooError, InputError, SpecError

T = TypeVar("T")
_FAILED = 1000  # above every signal number


class Ranks:
    """This process's rank among those of a run, and the collectives that keep the ranks in step.

    Every rank must call the collectives in the same order, or the others wait for it forever. So a rank that
    finds something alone (a signal, a full disk, a loss that is not finite) shares it before it acts on it. With
    one process, each collective returns its input.
    """

    def __init__(self, rank: int = 0, size: int = 1, tensor_size: int = 1):
        self.rank = rank
        self.size = size
        self.tensor_size = tensor_size  # consecutive ranks of one tensor-parallel group; they have the same data

    @property
    def data_rank(self) -> int:
        """Index of this rank's part of a batch, below `data_size`."""
        return self.rank // self.tensor_size

    @property
    def data_size(self) -> int:
        """Number of parts that a batch is split into."""
        return self.size // self.tensor_size

    @property
    def is_main(self) -> bool:
        """True on the rank that writes the run folder and prints."""
        return self.rank == 0

    def on_all_ranks(self, action: Callable[[], T]) -> T:
        """Run `action` on each rank and return this rank's result. Raise on all ranks if it fails on one."""
        if self.size == 1:
            return action()
        value, error = attempt(action)
        self.raise_on_all_ranks(error)
        return value  # type: ignore[return-value]

    def raise_on_all_ranks(self, error: Exception | None, number: int = 0) -> int:
        """Raise on all ranks if any rank has an `error`; else return the maximum of `number` over the ranks.

        One all-reduce if no rank has an error. `number` is at least 0 and below 1000.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return number
        maximum = self.all_reduce_max(number if error is None else _FAILED)
        if maximum < _FAILED:
            return maximum
        errors: list[Any] = [None] * self.size
        dist.all_gather_object(errors, None if error is None else _serialize(error, self.rank))
        if error is not None and not isinstance(error, GptzooError):
            raise _deserialize(errors[self.rank], error, silent=False)
        for rank, serialized in enumerate(errors):
            if serialized is not None:
                raise _deserialize(serialized, error if rank == self.rank else None, silent=rank != self.rank)
        raise AssertionError("one rank must have an error")

    def on_main_rank(self, action: Callable[[], T]) -> T:
        """Run `action` on the main rank and return its result on all ranks. Raise on all ranks if it fails."""
        if self.size == 1:
            return action()
        value, error = attempt(action) if self.is_main else (None, None)
        box = [(value, None if error is None else _serialize(error, self.rank))]
        dist.broadcast_object_list(box, src=0)
        value, serialized = box[0]
        if serialized is not None:
            raise _deserialize(serialized, error, silent=True)
        return value  # type: ignore[return-value]

    def broadcast_from(self, rank: int, value: T) -> T:
        """Return the `value` of `rank` on all ranks."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=rank)
        return box[0]

    def as_collective(self, error: GptzooError) -> GptzooError:
        """Mark an error that every rank raises at the same point, so that only the main rank prints it."""
        error.collective, error.reported_elsewhere = True, not self.is_main
        return error

    def all_reduce_max(self, value: int) -> int:
        """Return the maximum of `value` over the ranks."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value)  # on the CPU, so that no kernel is waited for
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def all_reduce_sum(self, *values: float) -> tuple[float, ...]:
        """Return each of the values summed over the ranks."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tuple(tensor.tolist())

    def all_reduce_metrics(self, metrics: Mapping[str, Tensor], losses: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        """Sum named tensors over the ranks and concatenate their `losses` (n,), with one all-reduce.

        Each loss has a place of its own, so that one that is not finite does not spoil the others. The ranks of a
        tensor-parallel group count once, by their mean.
        """
        if self.size == 1:
            return metrics, losses
        places = losses.new_zeros(self.data_size, len(losses), dtype=torch.float64)
        places[self.data_rank] = losses
        names = sorted(metrics)
        flat = torch.cat([places.flatten(), *(metrics[name].double().flatten() for name in names)])
        dist.all_reduce(flat)
        flat /= self.tensor_size
        all_losses, *sums = flat.split([places.numel(), *(metrics[name].numel() for name in names)])
        summed = {name: value.view_as(metrics[name]) for name, value in zip(names, sums, strict=True)}
        return summed, all_losses.to(losses.dtype)

    def round_robin(self, items: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """Yield this rank's share of the items, each with True if this rank counts it.

        All ranks get equally many items, because they compute together. If the last round is short, its first item
        is repeated and not counted. The ranks of a tensor-parallel group get the same items, and the first of them
        counts.
        """
        remaining = iter(items)
        while round_ := list(islice(remaining, self.data_size)):
            has_own = self.data_rank < len(round_)
            yield round_[self.data_rank if has_own else 0], has_own and self.rank % self.tensor_size == 0


SINGLE_RANK = Ranks()


def attempt(action: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return the result of `action` and None, or None and the exception that it raised."""
    try:
        return action(), None
    except Exception as error:
        return None, error


def _serialize(error: Exception, rank: int) -> tuple[type[GptzooError], str]:
    """Return an error's class and message, because some exceptions cannot be pickled."""
    if isinstance(error, GptzooError):
        return InputError if isinstance(error, SpecError) else type(error), str(error)
    return GptzooError, f"process {rank} failed: {type(error).__name__}: {error}"


def _deserialize(serialized: tuple[type[GptzooError], str], own_error: Exception | None, *, silent: bool) -> Exception:
    """Return the error to raise on this rank: its own if it has one, else a copy that is silent if another prints."""
    error_type, message = serialized
    error: Any = error_type(message) if own_error is None else own_error
    error.collective, error.reported_elsewhere = True, silent and own_error is None
    return error
