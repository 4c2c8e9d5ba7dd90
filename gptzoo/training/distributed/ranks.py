"""The processes that train one model together, and what they have to agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gptzoo.errors import GptzooError, InputError, SpecError

T = TypeVar("T")
_FAILED = 1000  # more than any number of a signal


class Ranks:
    """Processes 0, 1, … of a run; a process alone is the main one, and what it finds is agreed.

    All of them call each method in the same order: what one finds out by itself (a signal, a full disk, a loss that is
    not finite) may lead it elsewhere only after it was agreed upon, or the others would wait for it for ever.
    """

    def __init__(self, rank: int = 0, size: int = 1, tensor: int = 1):
        self.rank = rank
        self.size = size
        self.tensor = tensor  # so many in a row share each product, and have the same rows of a batch

    @property
    def data_rank(self) -> int:
        """Whose rows of a batch this process has, of `data_size`."""
        return self.rank // self.tensor

    @property
    def data_size(self) -> int:
        """Into how many parts a batch is cut."""
        return self.size // self.tensor

    @property
    def main(self) -> bool:
        """Whether this is the process that writes the folder and talks to people."""
        return self.rank == 0

    def everywhere(self, action: Callable[[], T]) -> T:
        """What `action` returns in this process; when it fails in one, all of them raise."""
        return self.everywhere_and_greatest(action, 0)[0]

    def everywhere_and_greatest(self, action: Callable[[], T], number: int) -> tuple[T, int]:
        """The same, and of the numbers (below 1000) of all processes the greatest, by one small message."""
        if self.size == 1:
            return action(), number
        value, own = _attempt(action)
        greatest = self.greatest(number if own is None else _FAILED)
        if greatest < _FAILED:
            return value, greatest  # type: ignore[return-value]
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, None if own is None else _in_transit(own, self.rank))
        if own is not None and not isinstance(own, GptzooError):
            raise _arrived(told[self.rank], own, silent=False)
        for rank, error in enumerate(told):
            if error is not None:
                raise _arrived(error, own if rank == self.rank else None, silent=rank != self.rank)
        raise AssertionError("one of the processes has failed")

    def on_main(self, action: Callable[[], T]) -> T:
        """What `action` returns in the main process, or raises there, in all of them."""
        if self.size == 1:
            return action()
        value, own = _attempt(action) if self.main else (None, None)
        box = [(value, None if own is None else _in_transit(own, self.rank))]
        dist.broadcast_object_list(box, src=0)
        value, error = box[0]
        if error is not None:
            raise _arrived(error, own, silent=True)
        return value  # type: ignore[return-value]

    def from_rank(self, rank: int, value: T) -> T:
        """The `value` that process number `rank` has."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=rank)
        return box[0]

    def agreed(self, error: GptzooError) -> GptzooError:
        """An error that all processes raise; the main one alone says it."""
        error.agreed, error.told_elsewhere = True, not self.main
        return error

    def greatest(self, value: int) -> int:
        """Of the values of all processes."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value)  # on the CPU: nothing has to wait for a device
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each of the values, summed over the processes."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tuple(tensor.tolist())

    def pooled(self, sums: Mapping[str, Tensor], losses: Tensor) -> tuple[Mapping[str, Tensor], Tensor]:
        """Tensors by name, summed over the processes, and the `losses` (n,) of all of them one after the other.

        One reduction for both: a loss that is not finite stays in its own place. What those have found who share
        products counts once, by its mean.
        """
        if self.size == 1:
            return sums, losses
        places = losses.new_zeros(self.data_size, len(losses), dtype=torch.float64)
        places[self.data_rank] = losses
        names = sorted(sums)
        flat = torch.cat([places.flatten(), *(sums[name].double().flatten() for name in names)])
        dist.all_reduce(flat)
        flat /= self.tensor
        everyones, *summed = flat.split([places.numel(), *(sums[name].numel() for name in names)])
        return {n: s.view_as(sums[n]) for n, s in zip(names, summed, strict=True)}, everyones.to(losses.dtype)

    def dealt(self, items: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """The items in turn to each process, and whether it is for this one to count.

        All get equally many, for they compute together: where the last round has too few, its first is given again.
        Those who share products get the same, and the first of them counts it.
        """
        remaining = iter(items)
        while round_ := list(islice(remaining, self.data_size)):
            there = self.data_rank < len(round_)
            yield round_[self.data_rank if there else 0], there and self.rank % self.tensor == 0


ALONE = Ranks()


def _attempt(action: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return action(), None
    except Exception as error:
        return None, error


def _in_transit(error: Exception, rank: int) -> tuple[type[GptzooError], str]:
    """An error as it travels: some exceptions cannot be pickled."""
    if isinstance(error, GptzooError):
        return InputError if isinstance(error, SpecError) else type(error), str(error)
    return GptzooError, f"process {rank} failed: {type(error).__name__}: {error}"


def _arrived(told: tuple[type[GptzooError], str], own: Exception | None, *, silent: bool) -> Exception:
    error: Any = told[0](told[1]) if own is None else own
    error.agreed, error.told_elsewhere = True, silent and own is None
    return error
