"""The numbers of a report as tables, to be read by programs: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.analysis import Analysis, Estimate
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.selection import Selection

Column = type[str] | type[int] | type[float]


@dataclass(frozen=True)
class Table:
    """Rows with a value or None in each column."""

    name: str  # of its files
    columns: Mapping[str, Column]
    rows: Sequence[Mapping[str, Any]]

    def as_csv(self) -> str:
        """Numbers so that they read back equal; nothing for None."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def write_parquet(self, file: Path) -> None:
        """Raises ImportError without pyarrow."""
        import pyarrow
        from pyarrow import parquet

        types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        schema = pyarrow.schema([(name, types[kind]) for name, kind in self.columns.items()])
        parquet.write_table(pyarrow.Table.from_pylist(list(self.rows), schema=schema), file)


def tables(outcome: Outcome, analysis: Analysis) -> list[Table]:
    """The ranking with its comparisons, each trial's end, the effects, the curves, and the rungs of a selection."""
    found = [_ranking(outcome, analysis), _trials(outcome), _effects(analysis), _curves(analysis)]
    return found if outcome.selection is None else [*found, selection_table(outcome.selection)]


def selection_table(selection: Selection) -> Table:
    """A row for each variant in each rung, best first."""
    columns: dict[str, Column] = {
        "rung": int, "step": int, "rank": int, "variant": str, "mean": float, "fate": str, "reason": str,
    }  # fmt: skip
    rows = [
        dict(zip(columns, (rung.number, one.step, rank, one.variant, one.mean, one.status, one.reason), strict=True))
        for rung in selection.rungs
        for rank, one in enumerate(rung.entries, 1)
    ]
    return Table("selection", columns, rows)


def _ranking(outcome: Outcome, analysis: Analysis) -> Table:
    """A row for each variant, best first, those without data last."""
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {one.variant: one for one in analysis.comparisons}
    seconds = {point.variant: point.cost for point in analysis.fronts.get("seconds per token", ())}
    rows = []
    for rank, name in enumerate([*analysis.ranking, *(name for name in variants if name not in analysis.ranking)], 1):
        variant, one = variants[name], comparisons.get(name)
        row: dict[str, Any] = {
            "rank": rank if name in analysis.ranking else None,
            "variant": name,
            **{axis: variant.choices.get(axis) for axis in outcome.axes},
            **_estimate("mean", analysis.ranking.get(name), n=True),
            "verdict": one.verdict if one else "baseline",
            **_estimate("difference", one.difference if one else None),
            "p": one.p if one else None,
            "p_adjusted": one.p_adjusted if one else None,
            "effect_size": one.effect_size if one else None,
            "detectable": one.detectable if one else None,
            "more_seeds": one.more_seeds if one else None,
            "failed": len(outcome.failures(name)),
            "parameters": variant.n_parameters,
            "flops_per_token": variant.flops_per_token,
            "memory_bytes": variant.memory_bytes,
            "cache_bytes": variant.cache_bytes,
            "seconds_per_token": seconds.get(name),
        }
        for cost, equal in analysis.matched.items():
            row |= _estimate(f"at_equal_{cost}", equal.losses.get(name))
        rows.append(row)
    whole = {"rank", "n", "more_seeds", "failed", "parameters", "memory_bytes", "cache_bytes"}
    words = {"variant", "verdict", *outcome.axes}
    columns: dict[str, Column] = {n: int if n in whole else str if n in words else float for n in rows[0]}
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
            "axes": " × ".join(one.choices),
            "choices": " × ".join(one.choices.values()),
            "reference": " × ".join(one.reference.values()),
            "verdict": one.verdict,
            **_estimate("effect", one.estimate),
            "p_adjusted": one.p_adjusted,
            "effect_size": one.effect_size,
        }
        for one in analysis.effects
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
    found: dict[str, Any] = {
        name: estimate.value if estimate else None,
        f"{name}_low": estimate.low if estimate else None,
        f"{name}_high": estimate.high if estimate else None,
    }
    if n:
        found |= {"sd": estimate.sd if estimate else None, "n": estimate.n if estimate else 0}
    return found
