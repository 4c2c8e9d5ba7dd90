"""The report of a scaling ladder as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo.ablation.report import palette
from gptzoo.ablation.report.figures.figure import Figure
from gptzoo.ablation.report.page_frame import data_url, json_text, render
from gptzoo.ablation.report.tables import Column, Table
from gptzoo.ablation.scaling.ladder_spec import BASELINE
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.ablation.scaling.sentences import format_factor


def render_ladder_page(
    result: LadderResult,
    spec: Mapping[str, Any],
    figures: Sequence[Figure],
    *,
    images: Mapping[str, bytes] | None = None,
    version: str = "",
) -> str:
    """Return the page. `spec` is the spec of the ladder, as JSON; `render` describes the other arguments."""
    tables = ladder_tables(result)
    downloads = {"ladder.json": data_url(json_text(dict(spec)).encode(), "application/json")}
    downloads |= {f"{t.name}.csv": data_url(t.as_csv().encode(), "text/csv") for t in tables if t.rows}
    by_flops = {
        (law.variant, multiplier.flops): format_factor(multiplier.multiplier)
        for law in (result.analysis.variants if result.analysis else ())
        for multiplier in law.multipliers
    }
    return render(
        "ladder.html",
        figures=figures,
        styles=ladder_styles(result),
        images=images,
        version=version,
        result=result,
        spec=spec,
        folder=Path(result.folder).name,
        multipliers=by_flops,
        downloads=downloads,
    )


def ladder_styles(result: LadderResult) -> dict[str, palette.LineStyle]:
    """Return the line style of each variant."""
    return palette.line_styles(list(dict.fromkeys(run.variant for run in result.runs)), BASELINE)


def ladder_tables(result: LadderResult) -> list[Table]:
    """Return the results of each size, and the multipliers."""
    analysis = result.analysis
    results: list[dict[str, Any]] = []
    multipliers: list[dict[str, Any]] = []
    for point in analysis.points if analysis else ():
        results.append(
            {
                "variant": point.variant,
                "held_out": 0,
                "parameters": point.n_parameters,
                "flops": point.flops,
                "seeds": len(point.losses),
                "mean": point.mean,
                "law": point.mean - point.residual,
            }
        )
    for held_out in analysis.held_out if analysis else ():
        results.append(
            {
                "variant": held_out.variant,
                "held_out": 1,
                "parameters": held_out.n_parameters,
                "flops": held_out.flops,
                "seeds": len(held_out.losses),
                "mean": held_out.measured,
                "law": held_out.predicted.estimate,
            }
        )
    for law in analysis.variants if analysis else ():
        for extrapolated, entries in ((0, law.multipliers), (1, law.extrapolated)):
            for entry in entries:
                interval = entry.multiplier
                multipliers.append(
                    {
                        "variant": law.variant,
                        "extrapolated": extrapolated,
                        "flops": entry.flops,
                        "multiplier": interval.estimate,
                        "low": interval.low,
                        "high": interval.high,
                    }
                )
    types: dict[str, Column] = {
        "variant": str,
        **dict.fromkeys(("held_out", "parameters", "seeds", "extrapolated"), int),
    }
    columns = ("variant", "held_out", "parameters", "flops", "seeds", "mean", "law")
    of_multipliers = ("variant", "extrapolated", "flops", "multiplier", "low", "high")
    return [
        Table("results", {name: types.get(name, float) for name in columns}, results),
        Table("multipliers", {name: types.get(name, float) for name in of_multipliers}, multipliers),
    ]
