"""The parameters of a model by name, as an optimizer receives them, with facts that depend on the model's parts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gptzoo.components.part import FusedBlocks
from gptzoo.model.architecture import Architecture
from gptzoo.model.fused_blocks import fused_blocks
from gptzoo.model.width import WidthScaling


class NamedParameters(dict[str, nn.Parameter]):
    """Parameters by name. Some hold several matrices, whose rows `matrix_rows` has.

    blocks: the matrices of fused parameters, by name; other names are ignored.
    row_orders: the order in which parameters hold their rows, by name, where tensor parallelism has changed it.
    width_scalings: the growth of parameters over the base width of a parametrisation, by name.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        blocks: Mapping[str, FusedBlocks],
        row_orders: Mapping[str, Tensor] | None = None,
        width_scalings: Mapping[str, WidthScaling] | None = None,
    ):
        super().__init__(parameters)
        self.width_scalings = dict(width_scalings or {})
        self.matrix_rows = {
            name: _rows(of, parameters[name].device, (row_orders or {}).get(name))
            for name, of in blocks.items()
            if name in parameters
        }

    @classmethod
    def of(cls, model: nn.Module) -> NamedParameters:
        """Return all parameters of a model that is not distributed."""
        scalings = model.width_scalings if isinstance(model, Architecture) else None
        return cls(dict(model.named_parameters()), fused_blocks(model), width_scalings=scalings)


def matrix_rows(parameters: Mapping[str, nn.Parameter]) -> Mapping[str, tuple[Tensor, ...]]:
    """Return the rows of each matrix in every parameter that holds several, by the parameter's name.

    An optimizer that treats a matrix as a whole calls it in `create`. `parameter[rows]` is one matrix. For a DTensor
    these are rows of the full tensor.
    """
    return parameters.matrix_rows if isinstance(parameters, NamedParameters) else {}


def _rows(blocks: FusedBlocks, device: torch.device, order: Tensor | None) -> tuple[Tensor, ...]:
    """Return the rows of each matrix in memory, where row i is row `order[i]` of the model."""
    place = None if order is None else order.argsort()
    return tuple((rows if place is None else place[rows]).to(device) for rows in blocks.rows())
