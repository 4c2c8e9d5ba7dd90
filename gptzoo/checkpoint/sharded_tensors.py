"""Tensors of which each process holds a part: written into one safetensors file, each part at its place, and read back.

The file is the one that a single process would write, so nothing that reads it needs to know how many wrote it. FSDP2
deals out rows, which lie one after the other in the file, so nobody ever needs the whole tensor. What is cut in another
way, or holds its rows in another order, is gathered, one tensor after the other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def is_shared(tensor: Tensor) -> bool:
    """Whether processes hold the tensor together (it is torch's DTensor)."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Tensor:
    """The tensor itself. All processes that share it must ask for it."""
    return tensor.full_tensor() if is_shared(tensor) else tensor


def own(tensor: Any) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if is_shared(tensor) else tensor


def in_order(orders: Mapping[str, Tensor] | None, name: str, tensor: Tensor, *, back: bool = False) -> Tensor:
    """A whole tensor with its rows in the order in which `name` is held; or, of one that is so, in their own again.

    What an optimizer keeps of a parameter is held as that is, if it has as many rows.
    """
    order = None if orders is None else orders.get(name.partition("|")[0])
    if order is None or tensor.ndim == 0 or len(tensor) != len(order):
        return tensor
    return tensor[(order.argsort() if back else order).to(tensor.device)]


def laid_out_as(target: Any, tensor: Tensor, *, as_large: bool = True) -> Tensor:
    """A whole tensor as `target` is: itself, or the part of it that this process holds. Nothing is sent.

    What is not `as_large` as the target is not cut, but kept whole by each process.
    """
    if not is_shared(target):
        return tensor
    from torch.distributed.tensor import Replicate, distribute_tensor

    placements = target.placements if as_large else [Replicate()] * target.device_mesh.ndim
    return distribute_tensor(tensor, target.device_mesh, placements, src_data_rank=None)


def write_shared(
    file: Path,
    tensors: Mapping[str, Tensor],
    orders: Mapping[str, Tensor],
    *,
    main: bool,
    everywhere: Callable[[Callable[[], None]], None],
) -> None:
    """A safetensors file of tensors that all processes of a run hold together; each must call it.

    orders: of some tensors by name, or of what is kept of them, the order in which their rows are held.
    The `main` one lays the file out and writes what all of them have. `everywhere` runs an action in each process, and
    raises in all of them when it fails in one.
    """
    header, places, size = _layout(tensors)
    rows = {name for name, tensor in tensors.items() if _in_rows(tensor) and name.partition("|")[0] not in orders}

    def lay_out() -> None:
        if main:
            with open(file, "wb") as stream:
                stream.write(header)
                stream.truncate(size)

    def fill(tensors: Mapping[str, Tensor]) -> None:
        with open(file, "r+b") as stream:
            for name, tensor in tensors.items():
                first, part = _own_part(tensor, main)
                if part.numel():
                    stream.seek(places[name] + first * _row_bytes(tensor))
                    stream.write(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            stream.flush()
            os.fsync(stream.fileno())

    everywhere(lay_out)
    everywhere(lambda: fill({name: tensors[name] for name in rows}))
    for name in sorted(tensors.keys() - rows):
        gathered = {name: in_order(orders, name, whole(tensors[name]), back=True)}
        everywhere(partial(fill, gathered))


def _layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, int], int]:
    """The header of the file, where each tensor begins, and the size of all."""
    entries: dict[str, Any] = {}
    end = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # so that each is aligned
        tensor = tensors[name]
        first, end = end, end + tensor.numel() * tensor.itemsize
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [first, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + entry["data_offsets"][0] for name, entry in entries.items()}, len(header) + end


def _row_bytes(tensor: Tensor) -> int:
    return tensor.shape[1:].numel() * tensor.itemsize


def _in_rows(tensor: Any) -> bool:
    """Whether each process has all of a tensor, or some of its rows."""
    if not is_shared(tensor):
        return True
    cuts = [placement for placement in tensor.placements if not placement.is_replicate()]
    return not cuts or (len(cuts) == 1 and cuts[0].is_shard(0))


def _own_part(tensor: Any, main: bool) -> tuple[int, Tensor]:
    """The first row, and the values, of what this process has to write of a tensor; of copies the first is written."""
    part = own(tensor)
    first, has_to = 0, True if is_shared(tensor) else main
    for dim, placement in enumerate(tensor.placements if is_shared(tensor) else ()):
        place, size = tensor.device_mesh.get_local_rank(dim), tensor.device_mesh.size(dim)
        if placement.is_replicate():
            has_to = has_to and place == 0
        else:
            first = min(place * -(-tensor.shape[0] // size), tensor.shape[0])  # as torch.chunk cuts
    return first, part if has_to else part.new_empty(0)
