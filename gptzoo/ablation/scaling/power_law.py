"""Power laws of the loss over training compute, L(C) = E + A C^-a, whose irreducible term E all variants share.

The fit does not use E, A and a as parameters, because they are nearly collinear over the few decades of compute that a
ladder covers. With x = log(C / C_ref), where C_ref is the geometric mean of the measured compute, variant v has the
parameters m_v, its loss at C_ref, and b_v, minus the slope of its loss there. They share the curvature
k = 1 / (m_baseline - E). In these parameters the law is smooth through k = 0, where it is a straight line in log C
without a floor. So the fit converges even for data that do not show the floor.

The noise is the standard deviation between seeds, pooled over sizes and variants. It does not depend on the law, so it
can test the law: `lack_of_fit` compares the residuals of the means with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gptzoo.ablation.scaling.result import FTest, Interval

Vector = NDArray[np.float64]

MIN_SIZES = 3  # two sizes fit any law with an exponent and a floor


@dataclass(frozen=True)
class ScalingPoint:
    """The losses of one variant at one size, one per seed."""

    variant: str
    n_parameters: int
    n_tokens: int
    flops: float
    losses: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean loss over seeds."""
        return math.fsum(self.losses) / len(self.losses)


class PowerLawFit:
    """The fit of one power law per variant, with a shared irreducible loss."""

    def __init__(self, points: Sequence[ScalingPoint], baseline: str) -> None:
        """Fit the laws. `check_points` raises ValueError for points that cannot be fitted."""
        check_points(points, baseline)
        self.points = tuple(points)
        self.baseline = baseline
        self.variants = (baseline, *dict.fromkeys(point.variant for point in points if point.variant != baseline))
        log_flops = np.log([point.flops for point in points])
        self._log_reference = float(log_flops.mean())
        self._x = log_flops - self._log_reference
        self._index = np.array([self.variants.index(point.variant) for point in points])
        self._means = np.array([point.mean for point in points])
        self._weights = np.sqrt([len(point.losses) for point in points])
        self.noise_df = sum(len(point.losses) - 1 for point in points)
        squares = sum((loss - point.mean) ** 2 for point in points for loss in point.losses)
        self.noise = math.sqrt(squares / self.noise_df)
        solution = optimize.least_squares(
            self._weighted_residuals, self._start(), jac=self._weighted_jacobian, x_scale="jac", xtol=1e-12, ftol=1e-12
        )
        self.parameters: Vector = solution.x
        self.converged = bool(solution.success)

    @cached_property
    def covariance(self) -> Vector:
        """The covariance of the parameters, from the noise between seeds."""
        jacobian = self._weighted_jacobian(self.parameters)
        return np.asarray(self.noise**2 * np.linalg.pinv(jacobian.T @ jacobian), dtype=np.float64)

    @property
    def residuals(self) -> tuple[float, ...]:
        """The mean loss of each point minus that of its law."""
        losses, _ = self._evaluate(self.parameters, self._x, self._index)
        return tuple((self._means - losses).tolist())

    @property
    def lack_of_fit(self) -> FTest | None:
        """The F test of the residuals of the means against the noise between seeds. None without spare points."""
        df = len(self.points) - len(self.parameters)
        if df < 1:
            return None
        square = float(np.sum(self._weighted_residuals(self.parameters) ** 2)) / df
        statistic = square / self.noise**2 if self.noise > 0 else math.inf
        return FTest(
            statistic=statistic, df=(df, self.noise_df), p_value=float(stats.f.sf(statistic, df, self.noise_df))
        )

    @property
    def curvature(self) -> Interval:
        """The shared curvature k. A law with a floor has a positive one."""
        return self._interval(0.95, lambda parameters: float(parameters[0]))

    @property
    def irreducible(self) -> float:
        """The irreducible loss E, which is minus infinity for a law without a floor."""
        curvature, level = self.parameters[:2]
        return float(level - 1 / curvature) if curvature > 0 else -math.inf

    def falls(self, variant: str) -> bool:
        """Return True if the loss of a variant falls with compute by more than the noise."""
        i = self.variants.index(variant)
        return self._interval(0.95, lambda parameters: float(parameters[2 + 2 * i])).low > 0

    def exponent(self, variant: str) -> float:
        """Return the exponent a in the law E + A C^-a of a variant."""
        i = self.variants.index(variant)
        return float(self.parameters[2 + 2 * i] * _curvatures(self.parameters)[i])

    def loss(self, variant: str, flops: float, confidence: float = 0.95, *, n_seeds: int | None = None) -> Interval:
        """Return the loss of a variant at some compute, with its interval.

        With `n_seeds`, the interval is the prediction interval for the mean of that many new runs.
        """
        x = np.array([math.log(flops) - self._log_reference])
        index = np.array([self.variants.index(variant)])
        extra = 0.0 if n_seeds is None else self.noise**2 / n_seeds
        return self._interval(confidence, lambda p: float(self._evaluate(p, x, index)[0][0]), extra)

    def log_multiplier(self, variant: str, flops: float, confidence: float = 0.95) -> Interval:
        """Return log m, where m is the effective compute multiplier: the baseline needs m C to reach the loss at C."""
        x = math.log(flops) - self._log_reference
        return self._interval(confidence, lambda p: self._log_multiplier(p, self.variants.index(variant), x))

    def trend(self, variant: str, confidence: float = 0.95) -> Interval:
        """Return the slope of the log multiplier over log C, which the law makes constant."""
        i = self.variants.index(variant)
        return self._interval(confidence, lambda p: self._log_multiplier(p, i, 1.0) - self._log_multiplier(p, i, 0.0))

    def _start(self) -> Vector:
        """Return a straight line per variant, and a floor well below the losses."""
        levels = []
        for i in range(len(self.variants)):
            chosen = self._index == i
            slope, level = np.polyfit(self._x[chosen], self._means[chosen], 1)
            levels += [level, -slope]
        return np.array([0.5 / max(np.ptp(self._means), 1e-9), *levels])

    def _weighted_residuals(self, parameters: Vector) -> Vector:
        losses, _ = self._evaluate(parameters, self._x, self._index)
        return self._weights * (losses - self._means)

    def _weighted_jacobian(self, parameters: Vector) -> Vector:
        _, jacobian = self._evaluate(parameters, self._x, self._index)
        return self._weights[:, None] * jacobian

    def _evaluate(self, parameters: Vector, x: Vector, index: NDArray[np.int64]) -> tuple[Vector, Vector]:
        """Return the losses at x of the variants with these indices, and their derivatives by the parameters."""
        curvature, levels, slopes = parameters[0], parameters[1::2], parameters[2::2]
        ratio = 1 / (1 + curvature * (levels - levels[0]))
        if (ratio <= 0).any():  # a floor above a loss; the optimizer takes a shorter step
            return np.full(len(x), np.inf), np.zeros((len(x), len(parameters)))
        rise = slopes[index] * x
        z = rise * (curvature * ratio)[index]
        decay, decay_slope = _relative_decay(z)
        losses = levels[index] - rise * decay
        by_own_curvature = -(rise**2) * decay_slope
        by_gap = by_own_curvature * (-((curvature * ratio) ** 2))[index]
        rows = np.arange(len(x))
        jacobian = np.zeros((len(x), len(parameters)))
        jacobian[:, 0] = by_own_curvature * (ratio**2)[index]
        jacobian[rows, 1 + 2 * index] = 1 + by_gap
        jacobian[:, 1] -= by_gap
        jacobian[rows, 2 + 2 * index] = -x * np.exp(-z)
        return losses, jacobian

    @staticmethod
    def _log_multiplier(parameters: Vector, i: int, x: float) -> float:
        """Return the distance from x to where the baseline reaches the loss that variant i has at x."""
        own = _curvatures(parameters)
        gap = float(parameters[1 + 2 * i] - parameters[1])
        lead = float(np.log1p(own[0] * gap) / own[0]) if abs(own[0]) > 1e-9 else gap
        slope = float(parameters[2 + 2 * i])
        return (slope * x * float(own[i] / own[0] if own[0] else 1.0) - lead) / float(parameters[2]) - x

    def _interval(self, confidence: float, function: Callable[[Vector], float], extra: float = 0.0) -> Interval:
        """Return a function of the parameters with Student's interval by the delta method; `extra` adds variance."""
        estimate = function(self.parameters)
        gradient = optimize.approx_fprime(self.parameters, function, 1e-6 * np.maximum(np.abs(self.parameters), 1e-3))
        error = math.sqrt(float(gradient @ self.covariance @ gradient) + extra)
        reach = float(stats.t.ppf((1 + confidence) / 2, self.noise_df)) * error
        return Interval(estimate=estimate, low=estimate - reach, high=estimate + reach)


def check_points(points: Sequence[ScalingPoint], baseline: str) -> None:
    """Raise ValueError if the points do not determine the laws or their noise."""
    sizes: dict[str, set[float]] = {baseline: set()}
    for point in points:
        sizes.setdefault(point.variant, set()).add(point.flops)
    for variant, compute in sizes.items():
        if len(compute) < MIN_SIZES:
            raise ValueError(f"a power law needs at least {MIN_SIZES} sizes, and {variant} has {len(compute)}")
    if all(len(point.losses) < 2 for point in points):
        raise ValueError("the noise between seeds needs at least two seeds at some size")


def _curvatures(parameters: Vector) -> Vector:
    """Return 1 / (m_v - E) of each variant."""
    own: Vector = parameters[0] / (1 + parameters[0] * (parameters[1::2] - parameters[1]))
    return own


def _relative_decay(z: Vector) -> tuple[Vector, Vector]:
    """Return (1 - exp(-z)) / z and its derivative. Both are smooth at 0."""
    small = np.abs(z) < 1e-3
    safe = np.where(small, 1.0, z)
    decay = np.where(small, 1 - z / 2 + z**2 / 6, -np.expm1(-safe) / safe)
    slope = np.where(small, -0.5 + z / 3 - z**2 / 8, (np.exp(-safe) - decay) / safe)
    return decay, slope
