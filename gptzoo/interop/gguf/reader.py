"""Reading of GGUF files: metadata and tensor headers at once, tensor values on demand and dequantised."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gptzoo.errors import DataError, FolderError

MAGIC = b"GGUF"
MetadataValue: TypeAlias = str | int | float | bool | list[str] | list[int] | list[float] | list[bool]
_VERSIONS = (2, 3)
_SPLIT_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_MAX_DIMENSIONS = 4
_FLOAT32, _BOOL, _STRING, _ARRAY = 6, 7, 8, 9
_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    10: "<u8",
    11: "<i8",
    _FLOAT32: "<f4",
    12: "<f8",
    _BOOL: "<u1",
}


def import_gguf_package() -> ModuleType:
    """Return the package `gguf`. Raises DataError if it is not installed."""
    try:
        import gguf
    except ImportError:
        raise DataError("GGUF files need the package `gguf`: pip install 'gptzoo[gguf]'") from None
    return gguf


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in a GGUF file, not read yet."""

    name: str
    shape: tuple[int, ...]
    quantization: Any  # gguf.GGMLQuantizationType
    data: np.ndarray[Any, Any]  # bytes, (…, bytes of a row), in the memory map of the file

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values that `read` returns."""
        types = import_gguf_package().GGMLQuantizationType
        return {types.F16: torch.float16, types.BF16: torch.bfloat16}.get(self.quantization, torch.float32)

    def read(self, part: int | None = None) -> Tensor:
        """Return the values, dequantised to float32. `part` selects one entry of the first dimension.

        Values of 16 bits keep their type.
        """
        gguf, rows = import_gguf_package(), self.data if part is None else self.data[part]
        match self.dtype:
            case torch.bfloat16:
                return torch.from_numpy(rows.view("<i2").astype(np.int16)).view(torch.bfloat16)
            case torch.float16:
                return torch.from_numpy(rows.view("<f2").astype(np.float16))
        if self.quantization == gguf.GGMLQuantizationType.F32:
            return torch.from_numpy(rows.view("<f4").astype(np.float32))
        return torch.from_numpy(np.ascontiguousarray(gguf.dequantize(rows, self.quantization), dtype=np.float32))


@dataclass(frozen=True)
class GgufFile:
    """The content of a GGUF file, or of all parts of a split one."""

    file: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def open_gguf(file: Path) -> GgufFile:
    """Read the metadata and the tensor headers of a GGUF file, and those of its other parts if it is split.

    Raises FolderError if the file is missing, damaged, truncated or of an unknown kind.
    """
    import_gguf_package()
    metadata, tensors = _Header(file).read()
    n_parts = metadata.get("split.count", 1)
    if type(n_parts) is int and n_parts > 1:
        match = _SPLIT_NAME.fullmatch(file.name)
        if match is None or int(match[3]) != n_parts:
            expected = f"MODEL-00001-of-{n_parts:05}.gguf"
            raise FolderError(f"{file}: is one of {n_parts} parts; expected a name such as {expected}")
        for part in range(1, n_parts + 1):
            other = file.with_name(f"{match[1]}-{part:05}-of-{match[3]}.gguf")
            part_metadata, part_tensors = _Header(other).read()
            if part == 1:
                metadata = part_metadata
            tensors |= part_tensors
    return GgufFile(file, metadata, tensors)


class _Header:
    """A cursor over the header of a GGUF file, which checks every length against the size of the file."""

    _SIZES: ClassVar[dict[int, int]] = {kind: np.dtype(name).itemsize for kind, name in _NUMBERS.items()}

    def __init__(self, file: Path):
        self.file = file
        try:
            self.bytes: np.ndarray[Any, Any] = np.memmap(file, mode="r", dtype=np.uint8)
        except FileNotFoundError:
            raise FolderError(f"{file}: no such file") from None
        except OSError as error:
            raise FolderError(f"{file}: cannot be read: {error.strerror or error}") from None
        except ValueError:
            raise FolderError(f"{file}: is not a GGUF file, because it is empty") from None
        self.position = 0

    def read(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        """Return the metadata and the tensors."""
        if self._take(4).tobytes() != MAGIC:
            raise FolderError(f"{self.file}: is not a GGUF file, because it does not start with {MAGIC.decode()}")
        version = self._unpack("<I")
        if version not in _VERSIONS:
            hint = "a big-endian file" if version & 0xFFFF == 0 else f"version {version}"
            raise self._error(f"is {hint}; only versions 2 and 3, little-endian, are supported")
        n_tensors, n_values = self._unpack("<Q"), self._unpack("<Q")
        metadata: dict[str, Any] = {}
        for _ in range(n_values):  # each needs bytes of the file, so that a wrong count ends at the end of the file
            key = self._string()
            if key in metadata:
                raise self._error(f"has the key {key!r} twice")
            metadata[key] = self._value(self._unpack("<I"))
        headers = [self._tensor_header() for _ in range(n_tensors)] if self._may_hold(n_tensors) else []
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment <= 0:
            raise self._error(f"general.alignment is {alignment!r}, expected a whole number above 0")
        start = -(-self.position // alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in headers:
            if name in tensors:
                raise self._error(f"has the tensor {name!r} twice")
            tensors[name] = self._tensor(name, shape, kind, start + offset)
        return metadata, tensors

    def _may_hold(self, n_tensors: int) -> bool:
        """Raise FolderError if the file is too small for the headers of `n_tensors` tensors, else return True."""
        if n_tensors * 24 > len(self.bytes):
            raise self._error(f"is truncated: it is too small for {n_tensors} tensors")
        return True

    def _tensor_header(self) -> tuple[str, tuple[int, ...], int, int]:
        name, n_dimensions = self._string(), self._unpack("<I")
        if n_dimensions > _MAX_DIMENSIONS:
            raise self._error(f"tensor {name!r} has {n_dimensions} dimensions, at most {_MAX_DIMENSIONS} are allowed")
        shape = tuple(self._unpack("<Q") for _ in range(n_dimensions))
        return name, shape[::-1], self._unpack("<I"), self._unpack("<Q")

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, offset: int) -> GgufTensor:
        gguf = import_gguf_package()
        try:
            quantization = gguf.GGMLQuantizationType(kind)
            block_size, block_bytes = gguf.GGML_QUANT_SIZES[quantization]
            if quantization not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
                gguf.dequantize(np.zeros((1, block_bytes), dtype=np.uint8), quantization)
        except (ValueError, KeyError):
            raise self._error(f"tensor {name!r} has the unknown type {kind}; try a newer version of gguf") from None
        except NotImplementedError:
            raise self._error(f"tensor {name!r} has type {quantization.name}, which cannot be dequantised") from None
        width = shape[-1] if shape else 1
        n_bytes = math.prod(shape) // block_size * block_bytes
        if not shape or 0 in shape or width % block_size:
            raise self._error(f"tensor {name!r} has shape {shape}, which {quantization.name} cannot have")
        if offset + n_bytes > len(self.bytes):
            raise self._error(f"is truncated: tensor {name!r} ends after the end of the file")
        rows = self.bytes[offset : offset + n_bytes].reshape(*shape[:-1], width // block_size * block_bytes)
        return GgufTensor(name, shape, quantization, rows)

    def _value(self, kind: int) -> MetadataValue:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            element, length = self._unpack("<I"), self._unpack("<Q")
            if element == _STRING:
                return [self._string() for _ in range(length)]
            return self._numbers(element, length)
        return self._numbers(kind, 1)[0]

    def _numbers(self, kind: int, length: int) -> list[Any]:
        if kind not in _NUMBERS:
            raise self._error(f"has a metadata value of the unknown type {kind}")
        values = self._take(self._SIZES[kind] * length).view(_NUMBERS[kind])
        if kind == _FLOAT32:  # the shortest decimal number that is this value: 1e-05, not 9.999999747378752e-06
            return [float(str(value)) for value in values] if length == 1 else values.tolist()
        return [bool(value) for value in values] if kind == _BOOL else values.tolist()

    def _string(self) -> str:
        try:
            return self._take(self._unpack("<Q")).tobytes().decode("utf-8")
        except UnicodeDecodeError:
            raise self._error("has a text that is not UTF-8") from None

    def _unpack(self, form: str) -> int:
        (value,) = struct.unpack(form, self._take(struct.calcsize(form)).tobytes())
        return int(value)

    def _take(self, length: int) -> np.ndarray[Any, Any]:
        if length > len(self.bytes) - self.position:
            raise self._error("is truncated or damaged: its header ends after the end of the file")
        self.position += length
        return self.bytes[self.position - length : self.position]

    def _error(self, reason: str) -> FolderError:
        return FolderError(f"{self.file}: {reason} (at byte {self.position:,})")
