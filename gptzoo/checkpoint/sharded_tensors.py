"""DTensors in safetensors files: each rank writes its local shard into one file, and reads its shard back.

The file is byte for byte the one that a single process writes, so a reader need not know the number of ranks. FSDP2
shards by rows, which are contiguous in the file: no rank ever needs the full tensor. Tensors that are sharded along
another dimension, or hold their rows in another order, are gathered one at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor
    from typing_extensions import TypeIs

DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The names of torch's types in safetensors files."""


def is_dtensor(tensor: Tensor) -> TypeIs[DTensor]:
    """Return True for a DTensor, without the slow import of torch.distributed.tensor."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Tensor) -> Tensor:
    """Return the full tensor. For a DTensor this is a collective: every rank of its mesh must call it."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor


def local_shard(tensor: Tensor) -> Tensor:
    """Return this rank's shard of a DTensor, or the tensor itself if it is not one."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def reorder_rows(
    row_orders: Mapping[str, Tensor] | None, name: str, tensor: Tensor, *, inverse: bool = False
) -> Tensor:
    """Permute the rows of a full tensor from file order into memory order, or back if `inverse`.

    row_orders: the permutation by parameter name; a tensor without one is returned unchanged.
    name: the name of a parameter, or `parameter|entry` for an optimizer state entry. An entry is permuted like its
        parameter if it has as many rows.
    """
    order = None if row_orders is None else row_orders.get(name.partition("|")[0])
    if order is None or tensor.ndim == 0 or len(tensor) != len(order):
        return tensor
    return tensor[(order.argsort() if inverse else order).to(tensor.device)]


def distribute_like(target: Tensor, tensor: Tensor, *, replicate: bool = False) -> Tensor:
    """Shard a full tensor as `target` is sharded, without communication. Return it unchanged if `target` is local.

    replicate: keep the full tensor on every rank of the target's mesh instead.
    """
    if not is_dtensor(target):
        return tensor
    from torch.distributed.tensor import Replicate, distribute_tensor

    placements = [Replicate()] * target.device_mesh.ndim if replicate else target.placements
    return distribute_tensor(tensor, target.device_mesh, placements, src_data_rank=None)


def write_sharded_file(
    file: Path,
    tensors: Mapping[str, Tensor],
    row_orders: Mapping[str, Tensor],
    *,
    is_main: bool,
    on_all_ranks: Callable[[Callable[[], None]], None],
) -> None:
    """Write the tensors of all ranks into one safetensors file. Every rank must call it.

    row_orders: for some parameters, the order in which memory holds their rows; see `reorder_rows`.
    is_main: True on the main rank, which creates the file and writes the tensors that are not DTensors.
    on_all_ranks: a function that runs an action on every rank, and raises on all ranks if it fails on one.
    """
    header, offsets, size = _file_layout(tensors)
    by_rows = {
        name
        for name, tensor in tensors.items()
        if _shards_are_rows(tensor) and name.partition("|")[0] not in row_orders
    }

    def create_file() -> None:
        if is_main:
            with open(file, "wb") as stream:
                stream.write(header)
                stream.truncate(size)

    def write_shards(tensors: Mapping[str, Tensor]) -> None:
        with open(file, "r+b") as stream:
            for name, tensor in tensors.items():
                first_row, shard = _shard_to_write(tensor, is_main)
                if shard.numel():
                    stream.seek(offsets[name] + first_row * _row_bytes(tensor))
                    stream.write(shard.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            stream.flush()
            os.fsync(stream.fileno())

    on_all_ranks(create_file)
    on_all_ranks(lambda: write_shards({name: tensors[name] for name in by_rows}))
    for name in sorted(tensors.keys() - by_rows):
        gathered = {name: reorder_rows(row_orders, name, full_tensor(tensors[name]), inverse=True)}
        on_all_ranks(partial(write_shards, gathered))


def write_one_by_one(file: Path, tensors: Mapping[str, Tensor], on_meta: Mapping[str, Tensor]) -> None:
    """Write a safetensors file and hold one tensor at a time.

    tensors: a mapping that computes or reads a tensor when it is asked for it.
    on_meta: tensors of the same names, shapes and types, without values.
    """
    header, offsets, size = _file_layout(on_meta)
    with open(file, "wb") as stream:
        stream.write(header)
        stream.truncate(size)
        for name in tensors:
            tensor = tensors[name]
            if (tensor.shape, tensor.dtype) != (on_meta[name].shape, on_meta[name].dtype):
                raise RuntimeError(f"{name}: {tensor.dtype} {tuple(tensor.shape)} is not as it was announced")
            stream.seek(offsets[name])
            stream.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        stream.flush()
        os.fsync(stream.fileno())


def _file_layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, int], int]:
    """Return the header of the file, the byte offset of each tensor, and the file size in bytes."""
    entries: dict[str, dict[str, Any]] = {}
    end = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # wide dtypes first, for alignment
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.itemsize
        entries[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + entry["data_offsets"][0] for name, entry in entries.items()}, len(header) + end


def _row_bytes(tensor: Tensor) -> int:
    return tensor.shape[1:].numel() * tensor.itemsize


def _shards_are_rows(tensor: Tensor) -> bool:
    """Return True if every rank holds the full tensor or a contiguous range of its rows."""
    if not is_dtensor(tensor):
        return True
    shardings = [placement for placement in tensor.placements if not placement.is_replicate()]
    return not shardings or (len(shardings) == 1 and shardings[0].is_shard(0))


def _shard_to_write(tensor: Tensor, is_main: bool) -> tuple[int, Tensor]:
    """Return the first row and the values that this rank writes; the values are empty if another rank writes them."""
    if not is_dtensor(tensor):
        return 0, tensor if is_main else tensor.new_empty(0)
    shard, first_row, writes = tensor.to_local(), 0, True
    for dim, placement in enumerate(tensor.placements):
        rank, size = tensor.device_mesh.get_local_rank(dim), tensor.device_mesh.size(dim)
        if placement.is_replicate():
            writes = writes and rank == 0  # one of the replicas is enough
        else:
            first_row = min(rank * -(-tensor.shape[0] // size), tensor.shape[0])  # torch.chunk's split
    return first_row, shard if writes else shard.new_empty(0)
