"""Micro-batches: the parts of a batch that go through the model one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gptzoo.data.batching.batching import Batch
from gptzoo.utils.targets import IGNORED_TARGET


@dataclass(frozen=True)
class MicroBatch:
    """The arguments of one forward pass, in host memory, and their weight in the batch."""

    inputs: dict[str, Tensor]  # (B, …) each
    n_targets: int  # targets of this micro-batch that are not ignored
    n_batch_targets: int  # targets of the whole batch, over all ranks
    index: int  # in the whole batch, over all ranks

    @property
    def n_rows(self) -> int:
        return len(self.inputs["targets"])

    @property
    def weight(self) -> float:
        """Fraction of the batch's targets that are in this micro-batch."""
        return self.n_targets / max(1, self.n_batch_targets)

    def to(self, device: torch.device) -> dict[str, Tensor]:
        """Return the arguments on the device."""
        return {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}


def split_into_micro_batches(
    batch: Batch, size: int, *, pin_memory: bool = False, rank: int = 0, n_ranks: int = 1
) -> list[MicroBatch]:
    """Split this rank's rows of a batch into micro-batches of `size` rows.

    Each of `n_ranks` has equally many rows, rank 0 the first ones. Pinned memory is copied to a GPU while it computes.
    """
    n_rows = len(batch["targets"]) // n_ranks
    rank_batch = {name: array[rank * n_rows : (rank + 1) * n_rows] for name, array in batch.items()}
    n_batch_targets = count_targets(batch)
    first_index = rank * -(-n_rows // size)
    micro_batches = []
    for index, first in enumerate(range(0, n_rows, size)):
        arrays = {name: array[first : first + size] for name, array in rank_batch.items()}
        inputs = _to_tensors(arrays, pin_memory)
        micro_batches.append(MicroBatch(inputs, count_targets(arrays), n_batch_targets, first_index + index))
    return micro_batches


def count_targets(batch: Batch) -> int:
    """Return the number of targets that are not ignored in the loss."""
    return int(np.count_nonzero(batch["targets"] != IGNORED_TARGET))


def _to_tensors(arrays: Mapping[str, np.ndarray], pin_memory: bool) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    return {name: tensor.pin_memory() for name, tensor in tensors.items()} if pin_memory else tensors
