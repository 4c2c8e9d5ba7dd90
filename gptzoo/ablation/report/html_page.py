"""The report of an ablation as one HTML page. A script draws the figures; without it the tables are complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.analysis import Analysis, Comparison, Cost, Matched
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.report import palette
from gptzoo.ablation.report.figures.figure import Figure
from gptzoo.ablation.report.figures.task_figures import build_heat_map
from gptzoo.ablation.report.page_frame import data_url, json_text, render
from gptzoo.ablation.report.ranking_table import ranking_table
from gptzoo.ablation.report.summary import headline, methods
from gptzoo.ablation.report.tables import Table
from gptzoo.ablation.statistics.training import training_facts
from gptzoo.ablation.warnings.tuning import tuned_variants


@dataclass(frozen=True)
class VariantDetails:
    """The data of a variant's card on the page."""

    variant: Variant
    comparison: Comparison | None  # None for the baseline
    trials: Sequence[TrialOutcome]


def render_page(
    outcome: Outcome,
    analysis: Analysis,
    figures: Sequence[Figure],
    tables: Sequence[Table],
    *,
    images: Mapping[str, bytes] | None = None,
    version: str = "",
) -> str:
    """Return the page.

    images: a PNG per figure, by the figure's name, for browsers without JavaScript.
    version: makes the page poll its server, `gptzoo.ablation.report.serve`, for another version. By default, the page
        makes no requests.
    """
    compared = [comparison.variant for comparison in analysis.comparisons]
    order = list(dict.fromkeys([*analysis.ranking, *outcome.baselines, *compared]))
    columns, rows = ranking_table(outcome, analysis, {name: f"variant-{i}" for i, name in enumerate(order, 1)})
    matched = _informative_costs(analysis)
    return render(
        "page.html",
        figures=figures,
        styles=palette.outcome_styles(outcome, analysis),
        images=images,
        version=version,
        outcome=outcome,
        analysis=analysis,
        states=Counter(trial.state for trial in outcome.all_trials),
        headline=headline(outcome, analysis),
        findings=[comparison for comparison in analysis.comparisons if comparison.variant in outcome.compared],
        methods=methods(outcome, analysis),
        trained=training_facts(outcome),
        columns=columns,
        rows=rows,
        matched=matched,
        matched_variants=[name for name in analysis.ranking if any(name in of.losses for of in matched.values())],
        heat_map=build_heat_map(analysis),
        variants=_variant_details(outcome, analysis, order),
        tuned=tuned_variants(outcome),
        samples=_samples_by_seed(outcome, order),
        downloads=_downloads(outcome, tables),
    )


def _informative_costs(analysis: Analysis) -> dict[Cost, Matched]:
    """Return the costs at which the results differ from those at the end of training.

    If all variants cost the same, or if no longer run could be interpolated, the table would repeat the ranking.
    """
    return {
        cost: at_cost
        for cost, at_cost in analysis.matched.items()
        if any(name in at_cost.losses for name in at_cost.cut_short)
    }


def _variant_details(outcome: Outcome, analysis: Analysis, order: Sequence[str]) -> list[VariantDetails]:
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {comparison.variant: comparison for comparison in analysis.comparisons}
    return [VariantDetails(variants[name], comparisons.get(name), outcome.trials_of(name)) for name in order]


def _samples_by_seed(outcome: Outcome, order: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the text samples by seed and variant, the baseline first."""
    samples: dict[int, dict[str, str]] = {}
    for name in dict.fromkeys([outcome.baseline, *order]):
        for trial in outcome.trials_of(name):
            if trial.sample:
                samples.setdefault(trial.seed, {})[name] = trial.sample
    return dict(sorted(samples.items()))


def _downloads(outcome: Outcome, tables: Iterable[Table]) -> dict[str, str]:
    """Return the ablation spec, the plugin files and the tables as data URLs by file name.

    The curves are left out: they are too long.
    """
    files = {f"{table.name}.csv": table.as_csv() for table in tables if table.rows and table.name != "curves"}
    sources = {file.name: file.read(outcome.folder) for file in outcome.plugin_files}
    return {
        "ablation.json": data_url(json_text(outcome.spec).encode(), "application/json"),
        **{name: data_url(source, "text/x-python") for name, source in sources.items() if source is not None},
        **{name: data_url(text.encode(), "text/csv") for name, text in files.items()},
    }
