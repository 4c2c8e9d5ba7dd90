"""Muon: orthogonalised updates for the matrices in blocks, AdamW for all other parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import distribute_like, full_tensor
from gptzoo.training import eager_optimizers
from gptzoo.training.named_parameters import matrix_rows
from gptzoo.training.optim.matrix_optimizer import MatrixOptimizer
from gptzoo.training.optim.optimizers import Beta
from gptzoo.training.width_rules import WidthFactors, orthogonal_width_factors


class Muon(MatrixOptimizer):
    """Muon: orthogonalises the update of each matrix in a block, so that it has the same size in all directions.

    AdamW updates all other parameters: biases, norms, convolutions, and everything outside blocks (embeddings, head).
    Matrices that a layer holds in one parameter, such as those of queries, keys and values, count separately.
    """

    name = "muon"
    paper = "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks, kellerjordan.github.io"
    version = 2
    algorithm = "Muon"
    width_rule = "muon"

    class Config(MatrixOptimizer.Config):
        lr: PositiveFloat = 0.02
        """Peak learning rate of the matrices in blocks, scaled by the schedule."""
        weight_decay: NonNegativeFloat = 0.01
        """Weight decay of the matrices in blocks."""
        momentum: Beta = 0.95
        """Decay rate of the running mean of the gradient."""
        nesterov: bool = True
        """Use Nesterov momentum."""
        ns_steps: PositiveInt = 5
        """Number of Newton-Schulz iterations. Each brings the update closer to an orthogonal matrix."""
        adjust_lr: Literal["original", "match_rms_adamw"] = "original"
        """Scaling of `lr` by the shape of a matrix. original: scale tall matrices only. match_rms_adamw: give updates
        the size of AdamW's, so that AdamW's learning rate can be used (arXiv:2502.16982)."""
        fused_matrices: Literal["separate", "together"] = "separate"
        """Treatment of matrices that a layer holds in one parameter, such as those of queries, keys and values.
        separate: orthogonalise each matrix by itself, with the scaling of its own shape, so that it does not matter how
        a layer is written. together: as one matrix, as all runs did before this option existed."""

    config: Config

    @classmethod
    def migrate(cls, config: dict[str, Any], version: int) -> dict[str, Any]:
        return {"fused_matrices": "together", **config} if version < 2 else config

    def matrix_width_factors(
        self, parameters: Mapping[str, nn.Parameter], names: Iterable[str]
    ) -> Mapping[str, WidthFactors]:
        separate = self.config.fused_matrices == "separate"
        return orthogonal_width_factors(parameters, names, self._adjustment, separate=separate, optimizer=self.name)

    def _adjustment(self, rows: int, columns: int) -> float:
        """Return the factor on `lr` that torch's Muon derives from the shape of a matrix."""
        return max(1.0, rows / columns) ** 0.5 if self.config.adjust_lr == "original" else max(rows, columns) ** 0.5

    def create_for_matrices(
        self, groups: list[dict[str, Any]], parameters: Mapping[str, nn.Parameter]
    ) -> torch.optim.Optimizer:
        fused = matrix_rows(parameters) if self.config.fused_matrices == "separate" else {}
        matrices = {parameter for group in groups for parameter in group["params"]}
        rows = {parameters[name]: of for name, of in fused.items() if parameters[name] in matrices}
        return _MuonByMatrix(groups, rows, self.config)


class _MuonByMatrix(eager_optimizers.Muon):
    """torch's Muon, with an update of its own for each matrix in the parameters of `rows`.

    The state of such a parameter has the shape of the parameter, as if it were one matrix.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        rows: Mapping[nn.Parameter, Sequence[Tensor]],
        config: Muon.Config,
    ):
        super().__init__(
            groups,
            momentum=config.momentum,
            nesterov=config.nesterov,
            ns_steps=config.ns_steps,
            adjust_lr_fn=config.adjust_lr,
        )
        self.rows = rows
        self._matrices = eager_optimizers.Muon([nn.Parameter(torch.zeros(1, 1))])  # each use gives it other matrices

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one step of all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients: dict[nn.Parameter, Tensor] = {}
        try:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter in self.rows and parameter.grad is not None:
                        gradients[parameter] = parameter.grad
                        parameter.grad = None  # torch's step skips the parameter
                        self._update_matrices(parameter, gradients[parameter], group)
            super().step()
        finally:
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        return loss

    def _update_matrices(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update a parameter that holds several matrices. If it is sharded, every rank computes the whole update."""
        state, momentum = self.state[parameter], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        direction = full_tensor(gradient.lerp(mean, momentum) if group["nesterov"] else mean)
        change = self._change(direction, self.rows[parameter], group)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(distribute_like(parameter, change))

    def _change(self, direction: Tensor, rows_of_matrices: Sequence[Tensor], group: dict[str, Any]) -> Tensor:
        """Return the change that torch's Muon makes to matrices of zeros in one step in their rows of `direction`."""
        matrices = []
        for rows in rows_of_matrices:
            matrix = nn.Parameter(torch.zeros_like(direction[rows]))
            matrix.grad = direction[rows]
            matrices.append(matrix)
        options = {"params": matrices, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
        self._matrices.param_groups = [{**group, **options}]
        self._matrices.step()
        self._matrices.param_groups = []
        self._matrices.state.clear()
        change = torch.empty_like(direction)
        for rows, matrix in zip(rows_of_matrices, matrices, strict=True):
            change[rows] = matrix
        return change
