"""The tensors of a checkpoint, by inversion of an importer's conversions.

A conversion that only moves elements is inverted by numbering: it is applied to the numbers of the source elements, and
the result says where each element of the converted tensor came from. Each result is checked by the conversion itself.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gptzoo.errors import PluginError
from gptzoo.interop.importer import Shape, Weight

_ROUNDING = 1e-6  # of an `inverse` that changes values, such as weight - 1


class SourceTensors(Mapping[str, Tensor]):
    """The source tensors of weights, by name without prefix, each computed when it is asked for.

    Tensors that come from the same weights are computed together, and kept until others are asked for. Elements that no
    weight is made of are 0. Raises PluginError for a conversion that cannot be inverted.

    state: the model's state dict, or another mapping to the tensors of the model.
    """

    def __init__(self, weights: Sequence[Weight], state: Mapping[str, Tensor]):
        self._state = state
        self._groups = {n: group for group in _groups(weights) for weight in group for n in weight.source_names}
        self._newest: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._newest:
            group = self._groups[name]
            self._newest.clear()  # first, so that the two are never in memory together
            self._newest |= _invert(group, self._state)
        return self._newest[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)


def _groups(weights: Sequence[Weight]) -> list[list[Weight]]:
    """Group the weights that share a source tensor, in order."""
    users: dict[str, list[int]] = defaultdict(list)
    for index, weight in enumerate(weights):
        for name in weight.source_names:
            users[name].append(index)
    groups, seen = [], set()
    for index in range(len(weights)):
        if index in seen:
            continue
        group, queue = [], [index]
        while queue:
            current = queue.pop()
            if current not in seen:
                seen.add(current)
                group.append(current)
                queue += itertools.chain.from_iterable(users[name] for name in weights[current].source_names)
        groups.append([weights[member] for member in sorted(group)])
    return groups


def _invert(group: list[Weight], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weight = group[0]
    if len(group) == 1 and weight.inverse is not None:
        return _by_inverse(weight, state[weight.name])
    for shapes in _possible_shapes(group, state):
        for by_row in (True, False):
            sources = {name: torch.zeros(shape, dtype=state[weight.name].dtype) for name, shape in shapes.items()}
            if all(_fill(sources, w, state[w.name], by_row=by_row) for w in group) and _is_right(sources, group, state):
                return sources
    raise PluginError(
        f"the conversion of {' and '.join(weight.source_names)} to {weight.name} cannot be inverted by moving "
        "elements; give its Weight an `inverse`, or `shapes` if the sources have other shapes than equal shares of rows"
    )


def _by_inverse(weight: Weight, tensor: Tensor) -> dict[str, Tensor]:
    assert weight.inverse is not None
    result = weight.inverse(tensor)
    tensors = (result,) if isinstance(result, Tensor) else tuple(result)
    again = weight.convert(*tensors)
    if not torch.allclose(again, tensor, rtol=_ROUNDING, atol=_ROUNDING):
        raise PluginError(f"the `inverse` of {weight.name} does not give the sources of its `convert`")
    return dict(zip(weight.source_names, (tensor.contiguous() for tensor in tensors), strict=True))


def _possible_shapes(group: list[Weight], state: Mapping[str, Tensor]) -> Iterator[dict[str, Shape]]:
    """Yield the shapes that the sources may have: those that the weights say, and reversed ones of a single source."""
    shapes: dict[str, Shape] = {}
    for weight in group:
        shapes |= dict(zip(weight.source_names, weight.shapes(tuple(state[weight.name].shape), weight), strict=True))
    yield shapes
    if len(shapes) == 1:
        yield {name: shape[::-1] for name, shape in shapes.items()}


def _fill(sources: dict[str, Tensor], weight: Weight, tensor: Tensor, *, by_row: bool) -> bool:
    """Copy the elements of a tensor to the places in its sources that they come from. False if that is impossible.

    by_row: number rows instead of elements, which needs less memory. It is right if the conversion moves whole rows.
    """
    parts = [sources[name] for name in weight.source_names]
    if by_row and (tensor.ndim < 2 or len({part.shape[1:] for part in [*parts, tensor]}) > 1):
        return False
    shapes = [(len(part), *([1] * (part.ndim - 1))) if by_row else tuple(part.shape) for part in parts]
    starts = [0, *itertools.accumulate(math.prod(shape) for shape in shapes)]
    try:
        numbers = [torch.arange(start, start + math.prod(s)).view(s) for start, s in zip(starts, shapes, strict=False)]
        origin = weight.convert(*numbers)
    except (RuntimeError, IndexError, ValueError):  # shapes that do not fit
        return False
    expected = (len(tensor), *([1] * (tensor.ndim - 1))) if by_row else tuple(tensor.shape)
    if tuple(origin.shape) != expected or origin.is_floating_point():
        return False
    origin = origin.reshape(-1)
    if origin.numel() and not (int(origin.min()) >= 0 and int(origin.max()) < starts[-1]):
        return False
    for part, start in zip(parts, starts, strict=False):
        length = len(part) if by_row else part.numel()
        here = (origin >= start) & (origin < start + length)
        flat, values = (part, tensor) if by_row else (part.view(-1), tensor.reshape(-1))
        flat[origin[here] - start] = values[here]
    return True


def _is_right(sources: Mapping[str, Tensor], group: list[Weight], state: Mapping[str, Tensor]) -> bool:
    for weight in group:
        again, tensor = weight.convert(*(sources[name] for name in weight.source_names)), state[weight.name]
        if again.shape != tensor.shape or not ((again == tensor) | (again.isnan() & tensor.isnan())).all():
            return False
    return True
