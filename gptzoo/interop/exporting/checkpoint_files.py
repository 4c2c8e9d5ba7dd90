"""Writing the tensors of a Hugging Face checkpoint: one safetensors file, or shards with an index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from gptzoo.checkpoint.stored_dtypes import narrowed
from gptzoo.errors import InputError
from gptzoo.utils.atomic import write_json

_SINGLE_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def write_sharded(
    tensors: Iterable[tuple[str, Tensor]],
    folder: Path,
    *,
    dtype: torch.dtype,
    may_round: bool = True,
    max_shard_bytes: int,
) -> int:
    """Write tensors in `dtype` into an existing folder and return their number.

    may_round: convert all floating-point tensors. False: tensors that `dtype` would round keep their type.

    One shard is in memory at a time. Raises InputError for a finite value that is infinite in `dtype`.
    """
    shards: list[list[str]] = []
    shard: dict[str, Tensor] = {}
    total_bytes = shard_bytes = 0
    for name, tensor in tensors:
        converted = _convert(name, tensor, dtype, may_round=may_round)
        if shard and shard_bytes + converted.nbytes > max_shard_bytes:
            shards.append(_write_shard(shard, folder / _temporary_name(len(shards))))
            shard, shard_bytes = {}, 0
        shard[name] = converted
        shard_bytes += converted.nbytes
        total_bytes += converted.nbytes
    shards.append(_write_shard(shard, folder / _temporary_name(len(shards))))
    if len(shards) == 1:
        (folder / _temporary_name(0)).rename(folder / _SINGLE_FILE)
        return len(shards[0])
    weight_map: dict[str, str] = {}
    for index, names in enumerate(shards):
        file = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / _temporary_name(index)).rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    write_json(folder / _INDEX, {"metadata": {"total_size": total_bytes}, "weight_map": weight_map})
    return len(weight_map)


def _convert(name: str, tensor: Tensor, dtype: torch.dtype, *, may_round: bool) -> Tensor:
    tensor = tensor.detach()
    rounds = may_round and tensor.is_floating_point()
    converted = tensor.to(dtype) if rounds else narrowed(tensor, dtype)
    converted = converted.to("cpu", copy=converted is tensor).contiguous()
    if not torch.equal(converted.isfinite(), tensor.isfinite().cpu()):
        raise InputError(
            f"{name} has the value {tensor.abs().max():g}, which is too large for {str(dtype).removeprefix('torch.')}. "
            "Export it in bfloat16 or float32."
        )
    return converted


def _temporary_name(index: int) -> str:
    return f"shard-{index}"


def _write_shard(tensors: dict[str, Tensor], file: Path) -> list[str]:
    file.touch()
    mode = file.stat().st_mode
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(mode)  # safetensors creates files that only their owner can read.
    return list(tensors)
