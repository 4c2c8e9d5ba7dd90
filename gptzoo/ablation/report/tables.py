"""The numbers of a report as tables for programs: CSV, and Parquet if pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.analysis import Analysis, Estimate
from gptzoo.ablation.records.outcome import BaselineLength, Outcome
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.warnings.tuning import tuned_variants

Column = type[str] | type[int] | type[float]


@dataclass(frozen=True)
class Table:
    """A table whose rows have a value or None in each column."""

    name: str  # base name of the files
    columns: Mapping[str, Column]
    rows: Sequence[Mapping[str, Any]]

    def as_csv(self) -> str:
        """Return the table as CSV. Floats keep full precision, and None becomes an empty cell."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def write_parquet(self, file: Path) -> None:
        """Write the table as Parquet. Raises ImportError without pyarrow."""
        import pyarrow
        from pyarrow import parquet

        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        schema = pyarrow.schema([(name, types[kind]) for name, kind in self.columns.items()])
        parquet.write_table(pyarrow.Table.from_pylist(list(self.rows), schema=schema), file)


def build_tables(outcome: Outcome, analysis: Analysis) -> list[Table]:
    """Return the tables: ranking and comparisons, trials, effects, curves, and scores, grids and rungs if any."""
    tables = [_ranking(outcome, analysis), _trials(outcome), _effects(analysis), _curves(analysis)]
    if analysis.scores:
        tables += [_scores(analysis), _trial_scores(analysis)]
    if analysis.tasks:
        tables += [_tasks(analysis), _task_trials(analysis)]
    if outcome.baseline_lengths:
        tables += [_lengths(outcome), _costs(analysis)]
    if tuned_variants(outcome):
        tables.append(_tuning(outcome))
    return tables if outcome.selection is None else [*tables, _selection(outcome.selection)]


def _scores(analysis: Analysis) -> Table:
    """Return a row for each variant in each metric of a task."""
    rows: list[dict[str, Any]] = [
        {
            "task": score.task,
            "metric": score.metric,
            "higher_is_better": int(score.higher_is_better),
            "variant": score.variant,
            **_estimate("mean", score.mean, n=True),
            "verdict": score.verdict or "baseline",
            **_estimate("difference", score.difference),
            "p": score.p,
            "p_adjusted": score.p_adjusted,
        }
        for score in analysis.scores
    ]
    types: dict[str, Column] = {**dict.fromkeys(("task", "metric", "variant", "verdict"), str)}
    types |= dict.fromkeys(("higher_is_better", "n"), int)
    return Table("scores", {name: types.get(name, float) for name in rows[0]}, rows)


def _trial_scores(analysis: Analysis) -> Table:
    """Return a row for each trial in each metric of a task."""
    columns: dict[str, Column] = {"task": str, "metric": str, "variant": str, "seed": int, "score": float}
    rows = [
        dict(zip(columns, (score.task, score.metric, score.variant, seed, value), strict=True))
        for score in analysis.scores
        for seed, value in score.values.items()
    ]
    return Table("trial_scores", columns, rows)


def _tasks(analysis: Analysis) -> Table:
    """Return a row for each variant in each metric of its synthetic task."""
    rows: list[dict[str, Any]] = [
        {
            "task": result.task,
            "metric": result.metric.metric,
            "model": result.model,
            "variant": result.variant,
            "length": result.metric.length,
            "chance": result.metric.chance,
            "state_bytes": result.metric.state_bytes,
            **_estimate("mean", result.mean, n=True),
            "solved": result.n_solved,
            "solved_low": result.solved_low,
            "solved_high": result.solved_high,
        }
        for result in analysis.tasks
    ]
    types: dict[str, Column] = dict.fromkeys(("task", "metric", "model", "variant"), str)
    types |= dict.fromkeys(("length", "state_bytes", "n", "solved"), int)
    return Table("tasks", {name: types.get(name, float) for name in rows[0]}, rows)


def _task_trials(analysis: Analysis) -> Table:
    """Return a row for each trial in each metric of its synthetic task: the points of the figure."""
    columns: dict[str, Column] = {
        "task": str, "metric": str, "model": str, "variant": str, "seed": int, "state_bytes": int, "value": float,
    }  # fmt: skip
    rows = [
        dict(zip(columns, (r.task, r.metric.metric, r.model, r.variant, s, r.metric.state_bytes, v), strict=True))
        for r in analysis.tasks
        for s, v in r.values.items()
    ]
    return Table("task_trials", columns, rows)


def _lengths(outcome: Outcome) -> Table:
    """Return a row for each trial of the baseline, at each length."""
    columns: dict[str, Column] = {
        "multiple": float, "steps": int, "seed": int, "state": str, "reason": str, outcome.metric: float
    }  # fmt: skip
    own = next(variant for variant in outcome.variants if variant.name == outcome.baseline)
    lengths = [*outcome.baseline_lengths, BaselineLength(1.0, own.steps or 0, outcome.trials_of(own.name))]
    rows = [
        dict(zip(columns, (of.multiple, of.steps, t.seed, t.state, t.reason, t.last(outcome.metric)), strict=True))
        for of in sorted(lengths, key=lambda length: length.multiple)
        for t in of.trials
    ]
    return Table("baseline_lengths", columns, rows)


def _costs(analysis: Analysis) -> Table:
    """Return a row for each variant in each unit of cost, and for the multiple of the baseline's own steps."""
    columns: dict[str, Column] = {"variant": str, "cost": str, **dict.fromkeys(("needed", "low", "high"), float)}
    columns |= {"spent": float, "n": int}
    rows = [
        dict(zip(columns, (of.variant, name, r.value, r.low, r.high, of.spent.get(name), of.n), strict=True))
        for of in analysis.costs
        for name, r in {"multiple": of.multiple, **of.needed}.items()
    ]
    return Table("costs_to_reach", columns, rows)


def _tuning(outcome: Outcome) -> Table:
    """Return a row for each value of the grid of each variant."""
    columns: dict[str, Column] = {
        "variant": str, "field": str, "value": float, "mean": float, "chosen": int, "edge": str
    }  # fmt: skip
    rows = []
    for variant, tuning in tuned_variants(outcome):
        for of in tuning.grid:
            is_best = of.value == tuning.best
            cells = (variant.name, tuning.field, of.value, of.mean, int(is_best), tuning.edge if is_best else "")
            rows.append(dict(zip(columns, cells, strict=True)))
    return Table("tuning", columns, rows)


def _selection(selection: Selection) -> Table:
    """Return a row for each variant in each rung, best first."""
    columns: dict[str, Column] = {
        "rung": int, "step": int, "rank": int, "variant": str, "mean": float, "fate": str, "reason": str,
    }  # fmt: skip
    rows = [
        dict(zip(columns, (rung.number, e.step, rank, e.variant, e.mean, e.status, e.reason), strict=True))
        for rung in selection.rungs
        for rank, e in enumerate(rung.entries, 1)
    ]
    return Table("selection", columns, rows)


def _ranking(outcome: Outcome, analysis: Analysis) -> Table:
    """Return a row for each variant, best first, with those without data last."""
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {comparison.variant: comparison for comparison in analysis.comparisons}
    seconds = {point.variant: point.cost for point in analysis.fronts.get("seconds per token", ())}
    rows = []
    ranks: Counter[str] = Counter()  # within each task
    for name in [*analysis.ranking, *(name for name in variants if name not in analysis.ranking)]:
        variant, comparison = variants[name], comparisons.get(name)
        reference = outcome.reference_of(name)
        ranks[reference] += 1
        row: dict[str, Any] = {
            "rank": ranks[reference] if name in analysis.ranking else None,
            "variant": name,
            **{axis: variant.choices.get(axis) for axis in outcome.axes},
            **_estimate("mean", analysis.ranking.get(name), n=True),
            "verdict": comparison.verdict if comparison else "baseline",
            **_estimate("difference", comparison.difference if comparison else None),
            "p": comparison.p if comparison else None,
            "p_adjusted": comparison.p_adjusted if comparison else None,
            "effect_size": comparison.effect_size if comparison else None,
            "detectable": comparison.detectable if comparison else None,
            "more_seeds": comparison.more_seeds if comparison else None,
            "failed": len(outcome.failures(name)),
            "parameters": variant.n_parameters,
            "flops_per_token": variant.flops_per_token,
            "memory_bytes": variant.memory_bytes,
            "cache_bytes": variant.cache_bytes,
            "seconds_per_token": seconds.get(name),
            "exports_as": variant.exports_as,
        }
        for cost, equal in analysis.matched.items():
            row |= _estimate(f"at_equal_{cost}", equal.losses.get(name))
        rows.append(row)
    integers = {"rank", "n", "more_seeds", "failed", "parameters", "memory_bytes", "cache_bytes"}
    strings = {"variant", "verdict", "exports_as", *outcome.axes}
    columns: dict[str, Column] = {n: int if n in integers else str if n in strings else float for n in rows[0]}
    return Table("ranking", columns, rows)


def _trials(outcome: Outcome) -> Table:
    columns: dict[str, Column] = {"variant": str, "seed": int, "state": str, "reason": str, outcome.metric: float}
    rows = [
        dict(zip(columns, (t.variant, t.seed, t.state, t.reason, t.last(outcome.metric)), strict=True))
        for variant in outcome.variants
        for t in outcome.trials_of(variant.name)
    ]
    return Table("trials", columns, rows)


def _effects(analysis: Analysis) -> Table:
    columns: dict[str, Column] = {
        **dict.fromkeys(("axes", "choices", "reference", "verdict"), str),
        **dict.fromkeys(("effect", "effect_low", "effect_high", "p_adjusted", "effect_size"), float),
    }
    rows = [
        {
            "axes": " × ".join(effect.choices),
            "choices": " × ".join(effect.choices.values()),
            "reference": " × ".join(effect.reference.values()),
            "verdict": effect.verdict,
            **_estimate("effect", effect.estimate),
            "p_adjusted": effect.p_adjusted,
            "effect_size": effect.effect_size,
        }
        for effect in analysis.effects
    ]
    return Table("effects", columns, rows)


def _curves(analysis: Analysis) -> Table:
    columns: dict[str, Column] = {
        **dict.fromkeys(("variant", "metric", "against"), str),
        **dict.fromkeys(("x", "mean", "low", "high"), float),
    }
    rows = [
        dict(zip(columns, (band.variant, band.metric, band.against, *point), strict=True))
        for band in analysis.bands
        for point in zip(band.x, band.mean, band.low, band.high, strict=True)
    ]
    return Table("curves", columns, rows)


def _estimate(name: str, estimate: Estimate | None, *, n: bool = False) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }
    if n:
        columns |= {"sd": estimate.sd if estimate else None, "n": estimate.n if estimate else 0}
    return columns
