"""Quantised checkpoints: weights in FP8 and MXFP4, dequantised one tensor at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.errors import FolderError, Problem, SpecError
from gptzoo.interop.stored_tensors import StoredTensor

_FP8 = ("F8_E4M3", "F8_E5M2")
_FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
_METHODS = ("fp8", "fbgemm_fp8", "mxfp4", "compressed-tensors")
_SCALES = ("weight_scale_inv", "weight_scale")
_INPUT_SCALES = ("input_scale", "activation_scale", "activation_scale_ub", "input_scale_ub", "kv_scale")
"""Suffixes of scales for activations, which only products in 8 bits use."""


@dataclass(frozen=True)
class Quantisation:
    """The quantisation that a config.json describes."""

    method: str
    dtype: str  # of the dequantised tensors
    block_size: tuple[int, int] | None = None  # rows and columns that share a scale in "fp8"


def read_quantisation(config: object, path: str, dtype: object) -> Quantisation | None:
    """Return the quantisation in `quantization_config`; None if there is none, or one that gptzoo does not know.

    dtype: the dtype in config.json, which the dequantised tensors have. Raises SpecError for wrong options.
    """
    method = config.get("quant_method") if isinstance(config, Mapping) else None
    if not isinstance(config, Mapping) or method not in _METHODS:
        return None
    if method == "compressed-tensors" and config.get("format") not in ("float-quantized", "naive-quantized"):
        reason = f"only float-quantized can be dequantised, got {json.dumps(config.get('format'))}"
        raise SpecError([Problem("config.json", f"{path}.format", reason)])
    size = config.get("weight_block_size")
    if size is not None and not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
        reason = f"expected two whole numbers, got {json.dumps(size)}"
        raise SpecError([Problem("config.json", f"{path}.weight_block_size", reason)])
    name = {"float32": "F32", "float16": "F16"}.get(str(dtype), "BF16")
    return Quantisation(str(method), name, None if size is None else (size[0], size[1]))


def dequantise(
    stored: Mapping[str, StoredTensor], quantisation: Quantisation | None
) -> tuple[Mapping[str, StoredTensor], list[str]]:
    """Return the tensors with quantised weights in the place of their codes and scales, and notes for the user.

    Raises FolderError if a scale is missing or has the wrong shape.
    """
    if quantisation is None:
        return stored, []
    tensors = dict(stored)
    mxfp4 = [name.removesuffix("_blocks") for name in stored if name.endswith("_blocks")]
    for name in mxfp4:
        blocks, scales = tensors.pop(f"{name}_blocks"), tensors.pop(f"{name}_scales", None)
        tensors[name] = _mxfp4_tensor(name, blocks, scales, quantisation)
    fp8 = [name for name, tensor in stored.items() if tensor.dtype in _FP8]
    for name in fp8:
        base, _, last = name.rpartition(".")
        scale_names = [f"{base}.{last}{suffix.removeprefix('weight')}".lstrip(".") for suffix in _SCALES]
        scale = next((tensors.pop(scale_name) for scale_name in scale_names if scale_name in tensors), None)
        tensors[name] = _fp8_tensor(stored[name], scale, quantisation)
    for name in [name for name in tensors if name.rpartition(".")[2] in _INPUT_SCALES]:
        del tensors[name]
    n = len(mxfp4) + len(fp8)
    return tensors, [f"{n} tensors in {quantisation.method} are dequantised to {quantisation.dtype}"]


@dataclass(frozen=True)
class _Computed:
    """A tensor that is computed when it is read."""

    compute: Callable[[], Tensor]
    dtype: torch.dtype

    def get_tensor(self, name: str) -> Tensor:
        return self.compute().to(self.dtype)


_TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def _tensor(name: str, shape: Iterable[int], quantisation: Quantisation, compute: Callable[[], Tensor]) -> StoredTensor:
    dtype = quantisation.dtype
    return StoredTensor(name, tuple(shape), dtype, _Computed(compute, _TORCH_DTYPES[dtype]))


def _fp8_tensor(weight: StoredTensor, scale: StoredTensor | None, quantisation: Quantisation) -> StoredTensor:
    if scale is None:
        raise FolderError(f"{weight.name}: is stored in {weight.dtype}, and the checkpoint has no scale for it")
    rows, columns = _per_row_and_column(weight, scale, quantisation.block_size)

    def compute() -> Tensor:
        values, scales = weight.read().float(), _read_scales(scale)
        if scales.ndim < 2:
            return values * scales.reshape(-1, *[1] * (values.ndim - 1))
        expanded = scales.repeat_interleave(rows, -2)[..., : values.shape[-2], :]
        return values * expanded.repeat_interleave(columns, -1)[..., : values.shape[-1]]

    return _tensor(weight.name, weight.shape, quantisation, compute)


def _read_scales(scale: StoredTensor) -> Tensor:
    values = scale.read()
    return (values.float() - 127).exp2() if values.dtype == torch.uint8 else values.float()  # an exponent in 8 bits


def _per_row_and_column(
    weight: StoredTensor, scale: StoredTensor, block_size: tuple[int, int] | None
) -> tuple[int, int]:
    """Return how many rows and columns of the weight share a scale. Raises FolderError for the wrong number of scales.

    The last blocks may be smaller than the others if config.json gives the size of a block.
    """
    problem = FolderError(f"{scale.name}: shape {scale.shape} does not fit {weight.name} {weight.shape}")
    if len(scale.shape) < 2:
        if scale.shape not in ((), (1,), weight.shape[:1]):
            raise problem
        return 1, 1
    if len(weight.shape) != len(scale.shape) or weight.shape[:-2] != scale.shape[:-2]:
        raise problem
    sizes = []
    for axis in (-2, -1):
        n, n_scales = weight.shape[axis], scale.shape[axis]
        is_even = n_scales > 0 and n % n_scales == 0
        size = n // n_scales if is_even and n_scales in (1, n) else block_size[axis] if block_size else 0
        if not size and is_even:
            size = n // n_scales
        if not size or -(-n // size) != n_scales:
            raise problem
        sizes.append(size)
    return sizes[0], sizes[1]


def _mxfp4_tensor(
    name: str, blocks: StoredTensor, scales: StoredTensor | None, quantisation: Quantisation
) -> StoredTensor:
    """Return the matrices (E, in, out) of blocks (E, out, G, 16) with two values in a byte, and of scales (E, out, G).

    Open Compute Project 2023, OCP Microscaling Formats (MX) Specification, version 1.0.
    """
    if scales is None or scales.shape != blocks.shape[:-1] or len(blocks.shape) != 4:
        found = "is missing" if scales is None else f"has shape {scales.shape}"
        raise FolderError(f"{name}_scales: {found}, and {blocks.name} has shape {blocks.shape}")
    n_experts, n_out, n_groups, n_bytes = blocks.shape

    def compute() -> Tensor:
        result = torch.empty(n_experts, n_groups * n_bytes * 2, n_out, dtype=_TORCH_DTYPES[quantisation.dtype])
        codes, exponents = blocks.read(), scales.read().int() - 127
        values = torch.tensor(_FP4_VALUES)
        for expert in range(n_experts):  # one at a time, since float32 takes eight times the memory of the codes
            code = codes[expert].int()
            pairs = torch.stack([values[code & 15], values[code >> 4]], dim=-1)  # (out, G, 16, 2)
            scaled = torch.ldexp(pairs.flatten(-2), exponents[expert][..., None])
            result[expert] = scaled.flatten(-2).T
        return result

    return _tensor(name, (n_experts, n_groups * n_bytes * 2, n_out), quantisation, compute)
