"""A cache of keys and values: tensors with the batch first, a slot for each position, and no counters.

The slot of a position is `position % n_slots`. With as many slots as positions that is a plain cache; with fewer, a
ring that forgets what a sliding window can no longer see. What a slot holds is told by its entry in `position` (-1:
nothing), so rows can be reordered, cloned or reset without knowing what they are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.components.sublayer import State


def new_cache(
    batch_size: int, n_slots: int, shapes: Mapping[str, tuple[int, ...]], *, device: Any, dtype: torch.dtype
) -> State:
    """An empty cache for tensors of `shapes` per position. One more slot takes what padding writes.

    In memory the slots of a head follow each other, so that a query reads its keys in one piece.
    """
    position = torch.full((batch_size, n_slots + 1), -1, dtype=torch.int64, device=device)
    room = {
        name: torch.zeros(batch_size, *shape[:-1], n_slots + 1, *shape[-1:], device=device, dtype=dtype).movedim(
            max(1, len(shape)), 1
        )
        for name, shape in shapes.items()
    }
    return {"position": position, **room}


def extend(
    state: State,
    new: Mapping[str, Tensor],
    positions: Tensor,
    *,
    no_past: bool,
    memo: dict[Any, Any] | None = None,
    position_limit: int | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Write `new`, each (B, T, …), at `positions` (B|1, T); return all that they may see, (B, S, …), with `k_pos`.

    memo: the step's. Caches that are alike, of the layers of one model, then share what is worked out of positions.
    reach: the step's. Slots that nothing was written to are then not read.
    """
    if not no_past and positions.is_cpu and not torch.compiler.is_compiling():
        memo = {} if memo is None else memo
        key = "cache", state["position"].shape, id(positions)
        if key not in memo:
            memo[key] = _place(state["position"], positions)
        if (place := memo[key]) is not None:
            return _append(state, new, place)
    n_slots = state["position"].shape[1] - 1
    n_read = (
        min(position_limit, n_slots) if position_limit else n_slots
    )  # what is beyond holds nothing that a new token may see
    batch_size, n_new = state["position"].shape[0], positions.shape[1]
    at = positions.expand(batch_size, n_new)
    if no_past:
        seen, k_pos = dict(new), positions
    elif n_new > 1:
        # In a ring, a chunk may overwrite what its own first tokens must still see: look first, then write.
        first = torch.where(at >= 0, at, torch.iinfo(at.dtype).max).amin(1, keepdim=True)
        known = state["position"][:, :n_read]
        k_pos = torch.cat([torch.where(known < first, known, -1), at], dim=1)
        seen = {
            name: torch.cat([state[name][:, :n_read].to(tensor.dtype), tensor], dim=1) for name, tensor in new.items()
        }

    keep = (at >= 0) & (at > at.amax(1, keepdim=True) - n_slots)
    slot = torch.where(keep, at % n_slots, n_slots)
    row = torch.arange(batch_size, device=at.device)[:, None]
    state["position"].index_put_((row, slot), torch.where(keep, at, -1))
    for name, tensor in new.items():
        state[name].index_put_((row, slot), tensor.to(state[name].dtype))

    if not no_past and n_new == 1:
        seen = {name: state[name][:, :n_read].to(tensor.dtype) for name, tensor in new.items()}
        k_pos = state["position"][:, :n_read]
    return seen, k_pos


class _Place(NamedTuple):
    """Where the new tokens of each row go."""

    slot: int | tuple[Tensor, Tensor]  # one, of all rows; or rows (B, 1) and slots (B|1, T)
    positions: Tensor  # (B|1, T)
    n_read: int  # slots beyond are empty, or of no matter to any row
    k_pos: Tensor  # (B, n_read), once it is written


def _append(state: State, new: Mapping[str, Tensor], place: _Place) -> tuple[dict[str, Tensor], Tensor]:
    """`extend` where positions can be looked at for free: what is empty is not read, and nothing is copied."""
    for name, tensor in (("position", place.positions), *new.items()):
        kept = state[name]
        if isinstance(place.slot, int):
            kept[:, place.slot] = tensor[:, 0]
        else:
            kept.index_put_(place.slot, tensor.to(kept.dtype))
    return {name: state[name][:, : place.n_read].to(tensor.dtype) for name, tensor in new.items()}, place.k_pos


def _place(known: Tensor, positions: Tensor) -> _Place | None:
    """None where the first of the new tokens must still see what the last of them would overwrite."""
    batch_size, n_slots = known.shape[0], known.shape[1] - 1
    last = int(positions.amax())
    if positions.shape[1] > 1 and last >= n_slots:
        return None
    n_read = min(last + 1, n_slots) if last >= 0 else n_slots
    k_pos = known[:, :n_read]
    if positions.shape == (1, 1):
        return _Place(last % n_slots if last >= 0 else n_slots, positions, n_read, k_pos)
    slot = torch.where(positions >= 0, positions % n_slots, n_slots)
    return _Place((torch.arange(batch_size)[:, None], slot), positions, n_read, k_pos)
