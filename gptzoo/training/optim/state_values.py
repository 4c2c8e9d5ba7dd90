"""Values of an optimizer's state as JSON and tensors: numbers, tensors, and nested lists, tuples, sets and dicts.

JSON holds a tree. A value that JSON cannot tell apart is an object with the key "!", the name of its type. Tensors are
stored apart, by name; a tensor that occurs twice is stored once, and is one tensor again after decoding.
"""

from __future__ import annotations

import base64
import collections
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gptzoo.errors import GptzooError

Json = Any  # a JSON value
_TAG = "!"
_SEQUENCES: dict[str, Callable[[list[Any]], object]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "torch.Size": torch.Size,
}
_DICTS: dict[str, type] = {
    "dict": dict,
    "ordered_dict": collections.OrderedDict,
    "defaultdict": collections.defaultdict,
}
_FACTORIES: dict[str, Any] = {"None": None, **{f.__name__: f for f in (int, float, list, dict, set, bool)}}
DTYPES = frozenset(
    {
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    }
)
"""The dtypes that a checkpoint can hold, written by one process or by several."""


class UnsupportedValue(GptzooError):
    """Raised for a value that a checkpoint cannot hold. The message says where it is, and its type."""


class Encoder:
    """Encodes values, and collects their tensors by name.

    package: the top-level package of the optimizer. Instances of its classes are stored by their attributes.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], package: str):
        self.tensors: dict[str, Tensor] = {}
        self.package = package
        self._parameters = {id(parameter): name for name, parameter in parameters.items()}
        self._names: dict[int, str] = {}  # of stored tensors, by id

    def store(self, tensor: Tensor, name: str) -> bool:
        """Store a tensor under a name, and return True; return False if it is stored already, or has no plain form."""
        if id(tensor) in self._names or id(tensor) in self._parameters or tensor.dtype not in DTYPES:
            return False
        if type(tensor) not in (Tensor, nn.Parameter) and not hasattr(tensor, "full_tensor"):
            return False
        if tensor.layout is not torch.strided:
            return False
        self.tensors[name] = tensor.detach()
        self._names[id(tensor)] = name
        return True

    def encode(self, value: object, name: str) -> Json:
        """Return a value as JSON. Its tensors are stored under `name` with a suffix. Raises UnsupportedValue."""
        kind = type(value)
        if (
            value is None
            or kind in (bool, int, str)
            or (isinstance(value, float) and kind is float and math.isfinite(value))
        ):
            return value
        if isinstance(value, Tensor):
            return self._encode_tensor(value, name)
        if kind is list:
            return [self.encode(item, f"{name}|{index}") for index, item in enumerate(cast(list[object], value))]
        if kind in (tuple, set, frozenset, torch.Size):
            items = [self.encode(item, f"{name}|{index}") for index, item in enumerate(cast(tuple[object, ...], value))]
            label = "torch.Size" if kind is torch.Size else kind.__name__
            return {_TAG: label, "items": sorted(items, key=repr) if kind in (set, frozenset) else items}
        if kind is collections.deque:
            queue = cast("collections.deque[object]", value)
            items = [self.encode(item, f"{name}|{index}") for index, item in enumerate(queue)]
            return {_TAG: "deque", "items": items, "maxlen": queue.maxlen}
        if kind in _DICTS.values():
            return self._encode_dict(cast(dict[object, object], value), name)
        return self._encode_other(value, name)

    def _encode_tensor(self, tensor: Tensor, name: str) -> Json:
        if id(tensor) in self._parameters:
            return {_TAG: "parameter", "name": self._parameters[id(tensor)]}
        if id(tensor) in self._names:
            return {_TAG: "tensor", "name": self._names[id(tensor)], "again": True}
        if tensor.is_complex() and tensor.layout is torch.strided:
            self.tensors[name] = torch.view_as_real(tensor.detach().resolve_conj())
            return {_TAG: "complex_tensor", "name": name}
        if self.store(tensor, name):
            order = _dimension_order(tensor)
            return {_TAG: "tensor", "name": name} | ({} if order is None else {"order": order})
        raise UnsupportedValue(
            f"{_readable(name)} is a tensor of type {type(tensor).__name__}, {tensor.dtype}, {tensor.layout}"
        )

    def _encode_dict(self, value: dict[object, object], name: str) -> Json:
        label = next(label for label, kind in _DICTS.items() if kind is type(value))
        items = [[self.encode(key, f"{name}|key"), self.encode(item, f"{name}|{key}")] for key, item in value.items()]
        encoded = {_TAG: label, "items": items}
        if isinstance(value, collections.defaultdict):
            factory = getattr(value.default_factory, "__name__", "None")
            if _FACTORIES.get(factory, ...) is not value.default_factory:
                raise UnsupportedValue(f"{_readable(name)} is a defaultdict of {value.default_factory!r}")
            encoded["factory"] = factory
        return encoded

    def _encode_other(self, value: object, name: str) -> Json:
        if isinstance(value, float) and type(value) is float:
            return {_TAG: "float", "value": str(value)}
        if isinstance(value, bytes):
            return {_TAG: "bytes", "data": base64.b64encode(value).decode()}
        if isinstance(value, complex):
            return {_TAG: "complex", "value": [self.encode(value.real, name), self.encode(value.imag, name)]}
        if isinstance(value, torch.dtype | torch.device):
            return {_TAG: f"torch.{type(value).__name__}", "value": str(value).removeprefix("torch.")}
        if isinstance(value, torch.Generator):
            self.tensors[name] = value.get_state()
            return {_TAG: "torch.Generator", "name": name, "device": str(value.device)}
        if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
            data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
            is_scalar = isinstance(value, np.generic)
            return {
                _TAG: "numpy",
                "dtype": value.dtype.str,
                "shape": None if is_scalar else list(value.shape),
                "data": data,
            }
        if _has_only_attributes(value, self.package):
            attributes = {key: self.encode(item, f"{name}|{key}") for key, item in vars(value).items()}
            return {
                _TAG: "object",
                "class": f"{type(value).__module__}:{type(value).__qualname__}",
                "attributes": attributes,
            }
        raise UnsupportedValue(f"{_readable(name)} has the type {type(value).__module__}.{type(value).__qualname__}")


class Decoder:
    """Decodes values that `Encoder` has encoded.

    tensor: returns the tensor of a name, ready for use.
    package: see `Encoder`. Classes of other packages are not looked up.
    """

    def __init__(self, tensor: Callable[[str], Tensor], parameters: Mapping[str, nn.Parameter], package: str):
        self._tensor, self._parameters, self._package = tensor, parameters, package
        self._decoded: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of a name; the same one each time."""
        if name not in self._decoded:
            self._decoded[name] = self._tensor(name)
        return self._decoded[name]

    def decode(self, value: Json) -> Any:  # noqa: ANN401  a value of any type
        """Return the value. Raises ValueError, TypeError or KeyError for JSON of another form."""
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        label = value[_TAG]
        if label in _SEQUENCES:
            return _SEQUENCES[label]([self.decode(item) for item in value["items"]])
        if label in _DICTS:
            pairs = [(self.decode(key), self.decode(item)) for key, item in value["items"]]
            if label == "defaultdict":
                return collections.defaultdict(_FACTORIES[value["factory"]], pairs)
            return _DICTS[label](pairs)
        simple: dict[str, Callable[[], object]] = {
            "deque": lambda: collections.deque(map(self.decode, value["items"]), maxlen=value["maxlen"]),
            "tensor": lambda: self._ordered_tensor(value["name"], value.get("order")),
            "complex_tensor": lambda: torch.view_as_complex(self.tensor(value["name"])),
            "parameter": lambda: self._parameters[value["name"]],
            "float": lambda: float(value["value"]),
            "bytes": lambda: base64.b64decode(value["data"]),
            "complex": lambda: complex(*map(self.decode, value["value"])),
            "torch.dtype": lambda: getattr(torch, value["value"]),
            "torch.device": lambda: torch.device(value["value"]),
            "torch.Generator": lambda: self._generator(value),
            "numpy": lambda: _numpy(value),
            "object": lambda: self._object(value),
        }
        return simple[label]()

    def _ordered_tensor(self, name: str, order: list[int] | None) -> Tensor:
        """Return the tensor of a name with its dimensions in memory in this order, as products depend on it."""
        tensor = self.tensor(name)
        if order is not None:
            inverse = [order.index(dim) for dim in range(tensor.ndim)]
            self._decoded[name] = tensor.permute(order).contiguous().permute(inverse)
        return self._decoded[name]

    def _generator(self, value: Mapping[str, Any]) -> torch.Generator:
        generator = torch.Generator(value["device"])
        generator.set_state(self.tensor(value["name"]).cpu())
        return generator

    def _object(self, value: Mapping[str, Any]) -> object:
        module, _, path = value["class"].partition(":")
        found: Any = sys.modules[module] if module.partition(".")[0] == self._package else None
        for part in path.split("."):
            found = getattr(found, part)
        restored: Any = object.__new__(found)
        vars(restored).update({key: self.decode(item) for key, item in value["attributes"].items()})
        return restored


def stored_names(value: Json) -> set[str]:
    """Return the names of the tensors that belong to an encoded value, and to no other entry."""
    if isinstance(value, list):
        return set().union(*map(stored_names, value))
    if not isinstance(value, dict):
        return set()
    is_tensor = value.get(_TAG) in ("tensor", "complex_tensor", "torch.Generator") and not value.get("again")
    children = [item for key, item in value.items() if key != _TAG]
    return ({value["name"]} if is_tensor else set()) | stored_names(children)


def is_plain(value: object) -> bool:
    """Return True for a value that JSON holds as it is."""
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def _dimension_order(tensor: Tensor) -> list[int] | None:
    """Return the dimensions of a tensor in their order in memory. None: the usual order, or memory with gaps."""
    if hasattr(tensor, "full_tensor") or tensor.is_contiguous():
        return None
    order = sorted(range(tensor.ndim), key=tensor.stride().__getitem__, reverse=True)
    return order if tensor.permute(order).is_contiguous() else None


def _has_only_attributes(value: object, package: str) -> bool:
    kind: Any = type(value)
    is_ordinary = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    has_own_state = getattr(kind, "__getstate__", None) is not getattr(object, "__getstate__", None)
    in_package = kind.__module__.partition(".")[0] == package and "<locals>" not in kind.__qualname__
    is_function = callable(value) and not hasattr(kind, "__dict__")
    return (
        in_package
        and is_ordinary
        and not has_own_state
        and not is_function
        and hasattr(value, "__dict__")
        and not isinstance(value, type | nn.Module)
    )


def _numpy(value: Mapping[str, Any]) -> object:
    array = np.frombuffer(base64.b64decode(value["data"]), dtype=np.dtype(value["dtype"])).copy()
    return array[0] if value["shape"] is None else array.reshape(value["shape"])


def _readable(name: str) -> str:
    """Describe the place of a value: the entry, and the parameter or group that has it."""
    owner, *entry = name.split("|")
    path = entry[0] + "".join(f"[{part}]" for part in entry[1:]) if entry else ""
    return f"entry {path!r} of {owner}" if owner else f"entry {path!r}"
