"""A KV cache: tensors with the batch dimension first and one slot per position, without counters.

Position p is stored in slot `p % n_slots`. With at least as many slots as positions, this is a plain cache. With fewer,
it is a ring buffer that keeps the window of sliding-window attention. The tensor `position` holds the position stored
in each slot (-1: empty), so rows can be reordered, copied or reset like any other batch of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.components.sublayer import State


def new_cache(
    batch_size: int,
    n_slots: int,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    device: torch.device | str | None,
    dtype: torch.dtype,
) -> State:
    """Allocate an empty cache; `shapes` are the shapes per position of the cached tensors.

    Each tensor has one extra slot, into which padding is written. The slots of a head are contiguous in memory, so a
    query reads its keys as one block.
    """
    position = torch.full((batch_size, n_slots + 1), -1, dtype=torch.int64, device=device)
    tensors = {
        name: torch.zeros(batch_size, *shape[:-1], n_slots + 1, *shape[-1:], device=device, dtype=dtype).movedim(
            max(1, len(shape)), 1
        )
        for name, shape in shapes.items()
    }
    return {"position": position, **tensors}


def extend(
    state: State,
    new: Mapping[str, Tensor],
    positions: Tensor,
    *,
    no_past: bool,
    memo: dict[Any, Any] | None = None,
    position_limit: int | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Write `new` tensors (B, T, …) at `positions` (B|1, T) and return the tensors to attend to with their positions.

    The result is (B, S, …) for each name, and `k_pos` (B|1, S). Pass `memo` and `position_limit` from the forward
    context: with `memo`, layers share the computation on positions; with `position_limit`, empty slots are not read.
    """
    if (
        not no_past
        # On a GPU, the host does not know the last of several positions.
        and (positions.is_cpu or (positions.is_cuda and positions.shape[1] == 1))
        and not torch.compiler.is_compiling()
    ):
        memo = {} if memo is None else memo
        key = "cache", state["position"].shape, id(positions)
        if key not in memo:
            memo[key] = _placement(state["position"], positions)
        if (placement := memo[key]) is not None:
            return _append(state, new, placement)
    n_slots = state["position"].shape[1] - 1
    n_read = min(position_limit, n_slots) if position_limit else n_slots  # later slots are empty
    batch_size, n_new = state["position"].shape[0], positions.shape[1]
    positions_2d = positions.expand(batch_size, n_new)
    if no_past:
        visible, k_pos = dict(new), positions
    elif n_new > 1:
        # In a ring, a chunk may overwrite slots that its own first tokens still attend to: read first, then write.
        first = torch.where(positions_2d >= 0, positions_2d, torch.iinfo(positions_2d.dtype).max).amin(1, keepdim=True)
        cached = state["position"][:, :n_read]
        k_pos = torch.cat([torch.where(cached < first, cached, -1), positions_2d], dim=1)
        visible = {
            name: torch.cat([state[name][:, :n_read].to(tensor.dtype), tensor], dim=1) for name, tensor in new.items()
        }

    keep = (positions_2d >= 0) & (positions_2d > positions_2d.amax(1, keepdim=True) - n_slots)
    slot = torch.where(keep, positions_2d % n_slots, n_slots)
    row = torch.arange(batch_size, device=positions.device)[:, None]
    state["position"].index_put_((row, slot), torch.where(keep, positions_2d, -1))
    for name, tensor in new.items():
        state[name].index_put_((row, slot), tensor.to(state[name].dtype))

    if not no_past and n_new == 1:
        visible = {name: state[name][:, :n_read].to(tensor.dtype) for name, tensor in new.items()}
        k_pos = state["position"][:, :n_read]
    return visible, k_pos


class _Placement(NamedTuple):
    """The slots for the new tokens of each row."""

    slot: int | tuple[Tensor, Tensor]  # one slot for all rows; or row indices (B, 1) and slots (B|1, T)
    positions: Tensor  # (B|1, T)
    n_read: int  # slots from here on are empty or masked for every row
    k_pos: Tensor  # (B, n_read), a view that is valid after the write


def _append(state: State, new: Mapping[str, Tensor], placement: _Placement) -> tuple[dict[str, Tensor], Tensor]:
    """Do the work of `extend` for a known placement, without reading empty slots and without copies."""
    for name, tensor in (("position", placement.positions), *new.items()):
        cached = state[name]
        if isinstance(placement.slot, int):
            cached[:, placement.slot] = tensor[:, 0]
        else:
            cached.index_put_(placement.slot, tensor.to(cached.dtype))
    visible = {name: state[name][:, : placement.n_read].to(tensor.dtype) for name, tensor in new.items()}
    return visible, placement.k_pos


def _placement(cached_positions: Tensor, positions: Tensor) -> _Placement | None:
    """Return the placement of new tokens, or None if they would overwrite slots that some of them attend to."""
    batch_size, n_slots = cached_positions.shape[0], cached_positions.shape[1] - 1
    n_read = n_slots
    if positions.is_cpu:  # on a GPU, the host would wait for the last position
        last = int(positions.amax())
        if positions.shape[1] > 1 and last >= n_slots:
            return None
        n_read = min(last + 1, n_slots) if last >= 0 else n_slots
        if positions.shape == (1, 1):
            slot = last % n_slots if last >= 0 else n_slots
            return _Placement(slot, positions, n_read, cached_positions[:, :n_read])
    slots = torch.where(positions >= 0, positions % n_slots, n_slots)
    rows = torch.arange(batch_size, device=positions.device)[:, None]
    return _Placement((rows, slots), positions, n_read, cached_positions[:, :n_read])
