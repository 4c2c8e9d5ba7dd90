"""Writing of GGUF files, one tensor at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from gptzoo.errors import FolderError
from gptzoo.interop.gguf.reader import import_gguf_package
from gptzoo.utils.atomic import new_file

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFWriter

GgufType = Literal["f32", "bf16", "q8_0"]
FILE_TYPES: Mapping[GgufType, tuple[str, str]] = {
    "f32": ("F32", "ALL_F32"),
    "bf16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
"""The types of weights, each with its names in the package `gguf`: of tensors and of files."""

# Small tensors for which llama.cpp has no other kernels.
_ALWAYS_F32 = ("_norm.weight", ".ffn_gate_inp.weight", "position_embd.weight", ".bias")


def write_gguf(
    file: Path,
    architecture: str,
    metadata: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Iterable[tuple[str, Tensor]],
    file_type: GgufType,
) -> None:
    """Write a GGUF file atomically.

    metadata: the values by their full keys.
    shapes: the shapes of all tensors by name, in order.
    tensors: the names and values of the same tensors, in the same order. One is in memory at a time.
    file_type: type of matrices. Vectors and other small tensors are always float32.

    Raises FolderError if the file cannot be written.
    """
    gguf = import_gguf_package()
    tensor_type, name = FILE_TYPES[file_type]
    quantization = gguf.GGMLQuantizationType[tensor_type]
    try:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
        with new_file(file) as temporary:
            writer = gguf.GGUFWriter(temporary, architecture)
            writer.add_file_type(gguf.LlamaFileType[name])
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            for key, value in metadata.items():
                _add_value(writer, key, value)
            types = {key: _stored_type(key, shape, quantization) for key, shape in shapes.items()}
            for key, shape in shapes.items():
                _add_header(writer, key, shape, types[key])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for key, tensor in tensors:
                values = tensor.detach().float().contiguous().numpy()
                writer.write_tensor_data(gguf.quantize(values, types[key]))
            writer.close()
    except OSError as error:
        raise FolderError(f"{file}: cannot be written: {error.strerror}") from None


def _add_value(writer: GGUFWriter, key: str, value: object) -> None:
    """Add a metadata value with the type that llama.cpp expects."""
    types = import_gguf_package().GGUFValueType
    if isinstance(value, bool):
        writer.add_key_value(key, value, types.BOOL)
    elif isinstance(value, int):
        writer.add_key_value(key, value, types.UINT32)
    elif isinstance(value, float):
        writer.add_key_value(key, value, types.FLOAT32)
    elif isinstance(value, str):
        writer.add_key_value(key, value, types.STRING)
    elif isinstance(value, Sequence):
        first = value[0] if value else ""
        kind = next(
            kind
            for python_type, kind in (
                (bool, types.BOOL),
                (int, types.INT32),
                (float, types.FLOAT32),
                (str, types.STRING),
            )
            if isinstance(first, python_type)
        )
        writer.add_key_value(key, value, types.ARRAY, sub_type=kind)
    else:
        raise TypeError(f"{key}: a GGUF file cannot hold {value!r}")


def _stored_type(name: str, shape: tuple[int, ...], quantization: GGMLQuantizationType) -> GGMLQuantizationType:
    gguf = import_gguf_package()
    block_size, _ = gguf.GGML_QUANT_SIZES[quantization]
    if len(shape) < 2 or name.endswith(_ALWAYS_F32) or shape[-1] % block_size:
        return gguf.GGMLQuantizationType.F32
    return quantization


def _add_header(writer: GGUFWriter, name: str, shape: tuple[int, ...], stored_type: GGMLQuantizationType) -> None:
    gguf = import_gguf_package()
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[stored_type]
    n_bytes = math.prod(shape) // block_size * block_bytes
    writer.add_tensor_info(name, list(shape), np.dtype(np.float32), n_bytes, raw_dtype=stored_type)
