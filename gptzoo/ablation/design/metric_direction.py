"""The direction of a metric: higher or lower values are those of better models."""

from __future__ import annotations

from collections.abc import Iterable

from gptzoo.spec.run import RunSpec

_HIGHER_IS_BETTER = frozenset({"tokens_per_second", "mfu"})  # metrics of every run


def is_higher_better(metric: str, runs: Iterable[RunSpec]) -> bool:
    """Return True if higher values of the metric are better in these runs.

    The metrics that a corpus or a batching declares are shares of right answers, so higher is better, also on the
    levels of a corpus: `val/accuracy`, `val/long/accuracy`. Of other metrics, such as losses, lower is better.
    """
    name = metric.rpartition("/")[2]
    return name in _HIGHER_IS_BETTER or any(name in run.declared_metrics for run in runs)
