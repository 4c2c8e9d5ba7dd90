"""The learning rate and weight decay of each parameter under the parametrisation `mup`, by the kind of optimizer.

The factors are those of Yang et al. 2022, Tensor Programs V, arXiv:2203.03466: Table 8 for parameters that a multiplier
follows, and the equivalent Table 3 for all others. Muon has the factors of Yang et al. 2023, A Spectral Condition for
Feature Learning, arXiv:2310.17813.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from gptzoo.errors import InputError
from gptzoo.model.width import Matrix, WidthScaling
from gptzoo.spec.width.parametrisation import NO_WIDTH_RULE
from gptzoo.training.named_parameters import NamedParameters

WidthRule = Literal["adam", "sgd", "adafactor", "muon"]

_TOLERANCE = 1e-6


@dataclass(frozen=True)
class WidthFactors:
    """Factors on the options of an optimizer for one parameter."""

    lr: float = 1.0
    eps: float = 1.0
    """Factor on a constant that is compared with entries of the gradient."""

    @property
    def weight_decay(self) -> float:
        """Factor on the weight decay: the product with the learning rate is the same at every width."""
        return 1 / self.lr


def width_factors(
    parameters: Mapping[str, nn.Parameter], names: Iterable[str], rule: WidthRule | None, *, optimizer: str
) -> dict[str, WidthFactors]:
    """Return the factors of the parameters with these names. They are 1 without a parametrisation.

    parameters: all parameters, as `Optimizer.create` receives them.
    optimizer: name of the optimizer in errors.

    Raises InputError if the factors are not defined.
    """
    scalings = parameters.width_scalings if isinstance(parameters, NamedParameters) else {}
    if not scalings:
        return {name: WidthFactors() for name in names}
    if rule not in _LEARNING_RATES:
        raise InputError(f"optimizer {optimizer!r} {NO_WIDTH_RULE}")
    learning_rate = _LEARNING_RATES[rule]
    return {name: WidthFactors(learning_rate(scalings[name]), scalings[name].gradient) for name in names}


def orthogonal_width_factors(
    parameters: Mapping[str, nn.Parameter],
    names: Iterable[str],
    adjustment: Callable[[int, int], float],
    *,
    separate: bool,
    optimizer: str,
) -> dict[str, WidthFactors]:
    """Return the factors of matrices whose updates are orthogonal. See `width_factors`.

    adjustment: the factor on `lr` that the optimizer itself derives from the rows and columns of a matrix.
    separate: treat each matrix of a fused parameter by itself.
    """
    scalings = parameters.width_scalings if isinstance(parameters, NamedParameters) else {}
    if not scalings:
        return {name: WidthFactors() for name in names}
    found = {}
    for name in names:
        scaling = scalings[name]
        matrices = scaling.matrices if separate else (_joined(scaling.matrices),)
        is_table = scaling.fans.inputs == (0,)
        factors = [_orthogonal_lr(matrix, adjustment, is_table=is_table) for matrix in matrices]
        if max(factors) - min(factors) > _TOLERANCE * max(factors):
            raise InputError(
                f"optimizer {optimizer!r}: the matrices in {name} grow differently with the width, so that "
                "parametrisation 'mup' gives them no common learning rate. Let all of them grow, such as n_kv_heads "
                "together with n_heads, or use adamw"
            )
        found[name] = WidthFactors(factors[0])
    return found


def _adam_lr(scaling: WidthScaling) -> float:
    """Return the factor for updates whose entries have the size of the learning rate."""
    sums_inputs = scaling.role == "hidden" or (scaling.role == "output" and not scaling.fans.has_multiplier)
    return 1 / scaling.fan_in if sums_inputs else 1.0


def _sgd_lr(scaling: WidthScaling) -> float:
    """Return the factor for updates in proportion to the gradient."""
    return _adam_lr(scaling) / scaling.gradient


def _adafactor_lr(scaling: WidthScaling) -> float:
    """Return the factor for updates in proportion to the size of the weights."""
    return _adam_lr(scaling) / scaling.initial_std


_LEARNING_RATES: Mapping[WidthRule | None, Callable[[WidthScaling], float]] = {
    "adam": _adam_lr,
    "sgd": _sgd_lr,
    "adafactor": _adafactor_lr,
}


def _orthogonal_lr(matrix: Matrix, adjustment: Callable[[int, int], float], *, is_table: bool) -> float:
    """Return the factor by which the spectral norm of an update grows as sqrt(fan-out / fan-in)."""
    growth = (matrix.rows / matrix.base_rows * matrix.base_columns / matrix.columns) ** 0.5
    own = adjustment(matrix.rows, matrix.columns) / adjustment(matrix.base_rows, matrix.base_columns)
    return (1 / growth if is_table else growth) / own


def _joined(matrices: tuple[Matrix, ...]) -> Matrix:
    """Return the one matrix that holds all rows of some matrices."""
    rows, base_rows = sum(m.rows for m in matrices), sum(m.base_rows for m in matrices)
    return replace(matrices[0], rows=rows, base_rows=base_rows)
