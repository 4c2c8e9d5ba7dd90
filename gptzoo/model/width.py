"""The growth of each parameter with the width of a model, from which the parametrisation `mup` derives its factors.

The model is compared with the same model at the base width. A dimension that is larger there is a width; the part that
owns the parameter, or its torch layer, says which dimensions are inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from gptzoo.components.part import Fans, Part
from gptzoo.errors import InputError
from gptzoo.model.fused_blocks import fused_blocks

Role = Literal["input", "hidden", "output", "vector", "fixed"]


@dataclass(frozen=True)
class Matrix:
    """The size of a matrix in the model, and at the base width."""

    rows: int
    columns: int
    base_rows: int
    base_columns: int


@dataclass(frozen=True)
class WidthScaling:
    """The growth of one parameter from the base width to the model's."""

    role: Role
    """input: only the outputs grow, as in an embedding. hidden: both grow. output: only the inputs grow. vector: one
    number per output, such as a bias. fixed: nothing grows."""
    fan_in: float
    """Number of inputs, divided by the number at the base width."""
    fan_out: float
    """Number of outputs, divided by the number at the base width."""
    fans: Fans
    matrices: tuple[Matrix, ...]
    """The matrices that the parameter holds: several if it is fused, none if it does not have two dimensions."""

    @property
    def initial_std(self) -> float:
        """Standard deviation of the initial values, relative to the base width (Table 3 or 8 of the paper)."""
        if self.role == "hidden":
            return 1 / math.sqrt(self.fan_in)
        return 1 / self.fan_in if self.role == "output" and not self.fans.has_multiplier else 1.0

    @property
    def initial_factor(self) -> float:
        """Factor on initial values that were drawn without a parametrisation."""
        return self.initial_std * (math.sqrt(self.fan_in) if self.fans.scales_initial_values else 1.0)

    @property
    def gradient(self) -> float:
        """Size of an entry of the gradient, relative to the base width."""
        return 1 / (self.fan_in if self.fans.has_multiplier else self.fan_out)


def width_scalings(model: nn.Module, base: nn.Module, label: str) -> dict[str, WidthScaling]:
    """Return the growth of each parameter of `model` over `base`, the model at the base width, by name.

    Raises InputError for a parameter whose inputs are not known. `label` is the name of the model in errors.
    """
    shapes, base_shapes = ({n: tuple(p.shape) for n, p in of.named_parameters()} for of in (model, base))
    if differing := sorted(shapes.keys() ^ base_shapes.keys()):
        raise _error(label, f"the model at the base width has other parameters: {differing[0]} is in one of them only")
    fans = dict(_known_fans(model))
    matrices = _matrices(model, base)
    return {
        name: _scaling(label, name, shape, base_shapes[name], fans.get(name), matrices.get(name, ()))
        for name, shape in shapes.items()
    }


def _scaling(
    label: str,
    name: str,
    shape: tuple[int, ...],
    base_shape: tuple[int, ...],
    fans: Fans | None,
    matrices: tuple[Matrix, ...],
) -> WidthScaling:
    if len(shape) != len(base_shape):
        raise _error(label, f"{name} has {len(shape)} dimensions, and {len(base_shape)} at the base width")
    ratios = [size / base_size for size, base_size in zip(shape, base_shape, strict=True)]
    if fans is None:
        if len(shape) > 1 and any(ratio != 1 for ratio in ratios):
            raise _error(
                label,
                f"it is not known which dimensions of {name} {shape} are inputs. The part that owns it must declare "
                "them in fans()",
            )
        fans = Fans(inputs=())
    fan_in = math.prod(ratio for index, ratio in enumerate(ratios) if index in fans.inputs)
    fan_out = math.prod(ratio for index, ratio in enumerate(ratios) if index not in fans.inputs)
    if fan_in == 1 and fan_out == 1:
        role: Role = "fixed"
    elif fan_in == 1:
        role = "input" if fans.inputs else "vector"
    else:
        role = "output" if fan_out == 1 else "hidden"
    return WidthScaling(role, fan_in, fan_out, fans, matrices)


def _known_fans(model: nn.Module) -> Iterator[tuple[str, Fans]]:
    """Yield the fans of the matrices of torch's layers, and those that parts declare, which come last."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            yield f"{path}.weight", Fans(inputs=(1,))
        elif isinstance(module, nn.Embedding):
            yield f"{path}.weight", Fans(inputs=(0,))
        elif isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
            yield f"{path}.weight", Fans(inputs=tuple(range(1, module.weight.ndim)), scales_initial_values=True)
    for path, part in model.named_modules():
        for name, fans in part.fans().items() if isinstance(part, Part) else ():
            parameter = dict(part.named_parameters()).get(name)
            label = f"{part.kind} {part.name!r}: fans() declares {name}"
            if parameter is None:
                raise RuntimeError(f"{label}, but the part has no such parameter")
            if not set(fans.inputs) <= set(range(parameter.ndim)):
                n = parameter.ndim
                raise RuntimeError(f"{label} with inputs {fans.inputs}, but the parameter has {n} dimensions")
            yield f"{path}.{name}" if path else name, fans


def _matrices(model: nn.Module, base: nn.Module) -> dict[str, tuple[Matrix, ...]]:
    """Return the matrices in each parameter of two dimensions."""
    blocks, base_blocks = fused_blocks(model), fused_blocks(base)
    base_parameters = dict(base.named_parameters())
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2 or base_parameters[name].ndim != 2:
            continue
        rows, base_rows = (
            [len(block) for block in of[name].rows()] if name in of else [p.shape[0]]
            for of, p in ((blocks, parameter), (base_blocks, base_parameters[name]))
        )
        columns, base_columns = parameter.shape[1], base_parameters[name].shape[1]
        found[name] = tuple(Matrix(n, columns, m, base_columns) for n, m in zip(rows, base_rows, strict=True))
    return found


def _error(label: str, reason: str) -> InputError:
    return InputError(f"{label}: $.parametrisation: {reason}")
