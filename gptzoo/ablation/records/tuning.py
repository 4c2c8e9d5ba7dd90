"""The result of tuning a field of a variant on a grid of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Edge = Literal["lowest", "highest"]


@dataclass(frozen=True)
class GridValue:
    """One value of a grid."""

    value: float
    mean: float | None  # mean metric over the seeds of the tuning; None if a trial failed or has not ended


@dataclass(frozen=True)
class Tuning:
    """The grid of one variant, and the value that it chose."""

    field: str  # such as "optimizer.lr"
    seeds: Sequence[int]
    grid: Sequence[GridValue]  # in ascending order
    best: float | None = None  # None until all trials have ended, and if all of them failed
    edge: Edge | None = None  # set if the best value is the lowest or the highest of those that were tried
    n_added: int = 0  # values that were added because the best was at an edge
    stopped: str = ""  # why a grid was not extended although the best is at its edge
    has_effect: bool = True  # False if all values have the same mean, bit for bit

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tuning:
        """Read the form that `dataclasses.asdict` gives."""
        return cls(**{**data, "grid": [GridValue(**value) for value in data["grid"]]})

    @property
    def description(self) -> str:
        """The values in one line: "optimizer.lr 0.003, the best of 0.001, 0.003, 0.01"."""
        values = ", ".join(f"{value.value:g}" for value in self.grid)
        if self.best is None:
            return f"{self.field} is being tuned: {values}"
        edge = f", at the {self.edge} edge of the grid" if self.edge else ""
        return f"{self.field} {self.best:g}, the best of {values}{edge}"
