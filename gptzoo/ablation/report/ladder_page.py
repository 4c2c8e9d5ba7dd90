"""The report of a scaling ladder as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.report import palette
from gptzoo.ablation.report.figures.figure import Figure
from gptzoo.ablation.report.figures.ladder_figures import build_ladder_figures
from gptzoo.ablation.report.page_frame import data_url, json_text, render
from gptzoo.ablation.report.tables import Column, Table
from gptzoo.ablation.report.without_paths import without_paths
from gptzoo.ablation.scaling.folder import read_ladder_files
from gptzoo.ablation.scaling.ladder_spec import BASELINE
from gptzoo.ablation.scaling.read_result import ladder_result
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.ablation.scaling.sentences import format_factor
from gptzoo.checkpoint.plugin_files import PluginFile
from gptzoo.publishing.private_paths import public_record


@dataclass(frozen=True)
class LadderPage:
    """The contents of the page of a ladder, without folder names and the name of the host."""

    result: LadderResult
    spec: Mapping[str, Any]  # of the ladder, as JSON
    plugin_files: Mapping[PluginFile, bytes | None]  # with their sources; None if the folder has lost one

    @property
    def figures(self) -> list[Figure]:
        """The figures of the laws; none while the results do not determine them."""
        return build_ladder_figures(self.result.analysis, self.result.metric) if self.result.analysis else []

    @property
    def tables(self) -> list[Table]:
        """The tables for programs."""
        return ladder_tables(self.result)

    @property
    def styles(self) -> dict[str, palette.LineStyle]:
        """The line style of each variant."""
        return palette.line_styles(list(dict.fromkeys(run.variant for run in self.result.runs)), BASELINE)

    def render(self, *, images: Mapping[str, bytes] | None = None, version: str = "") -> str:
        """Return the page. `gptzoo.ablation.report.page_frame.render` describes the arguments."""
        result = self.result
        downloads = {"ladder.json": data_url(json_text(dict(self.spec)).encode(), "application/json")}
        downloads |= {f.name: data_url(of, "text/x-python") for f, of in self.plugin_files.items() if of is not None}
        downloads |= {f"{t.name}.csv": data_url(t.as_csv().encode(), "text/csv") for t in self.tables if t.rows}
        multipliers = {
            (law.variant, multiplier.flops): multiplier.multiplier
            for law in (result.analysis.variants if result.analysis else ())
            for multiplier in law.multipliers
        }
        return render(
            "ladder.html",
            figures=self.figures,
            styles=self.styles,
            images=images,
            version=version,
            result=result,
            spec=self.spec,
            plugin_files=list(self.plugin_files),
            multipliers=multipliers,
            tuned={run.label: run.chosen for run in result.tuned},
            format_factor=format_factor,
            downloads=downloads,
        )


def read_ladder_page(folder: Path) -> tuple[LadderPage, LadderResult]:
    """Return the page of a ladder, and the result that it shows, which names folders. Raises FolderError."""
    (spec, runs), outcome = read_ladder_files(folder), read_outcome(folder)
    result = ladder_result(spec, runs, outcome)
    plugin_files = {file: file.read(folder) for file in outcome.plugin_files}
    return LadderPage(without_paths(result), public_record(spec), plugin_files), result


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
