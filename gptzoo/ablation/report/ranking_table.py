"""The ranking table of the HTML page: its columns, and the text and sort value of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.analysis import Analysis, CostToReach, Estimate
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.formatting import (
    MISSING,
    format_interval,
    format_p_value,
    format_two_digits,
    format_value,
)
from gptzoo.ablation.statistics.cost_sentences import describe_multiple
from gptzoo.ablation.wording import better_sign
from gptzoo.utils.units import scaled

_COST_TOOLTIP = "Number of steps that {} needs to reach this mean, as a multiple of its own, with its interval"


@dataclass(frozen=True)
class Column:
    """A column with its heading."""

    title: str
    tooltip: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: the text that is shown, and the value by which the column is sorted."""

    text: str
    value: str  # with full precision; "" if missing
    numeric: bool = True
    interval: str = ""  # shown in smaller type after the text
    verdict: str = ""  # shown as a badge instead of the text
    link: str = ""  # id of an element on the page


@dataclass(frozen=True)
class Row:
    """A row for one variant."""

    name: str
    cells: Sequence[Cell]


def ranking_table(outcome: Outcome, analysis: Analysis, links: Mapping[str, str]) -> tuple[list[Column], list[Row]]:
    """Return the columns and rows of the ranking. Columns without any value, such as p of a single seed, are left out.

    links: ids of the elements with the details of each variant, by name, in the order of the rows.
    """
    columns = _columns(outcome)
    rows = [_row(outcome, analysis, name, link) for name, link in links.items()]
    filled = [index for index in range(len(columns)) if any(row.cells[index].value for row in rows)]
    return [columns[i] for i in filled], [Row(row.name, [row.cells[i] for i in filled]) for row in rows]


def _columns(outcome: Outcome) -> list[Column]:
    baseline = "the baseline of the same task" if outcome.task_axes else outcome.baseline
    return [
        Column("variant", "Name of the variant", numeric=False),
        Column(outcome.metric, "Mean over seeds with its confidence interval, without correction"),
        Column("seeds", "Number of trials with a result, of all trials"),
        Column(
            "difference",
            f"Mean difference from {baseline}; {better_sign(outcome.higher_is_better)} is better. The "
            "interval is corrected for all comparisons (Holm)",
        ),
        Column("verdict", "Follows from the interval of the difference and the margin", numeric=False),
        Column("p", "p value of the hypothesis of no difference, corrected for all comparisons (Holm)"),
        Column("effect (SD)", "Effect size: the difference in standard deviations over seeds"),
        Column(
            "detectable",
            f"Smallest true difference that this number of seeds detects with a power of {outcome.power:.0%}",
        ),
        Column("parameters", "Number of parameters"),
        Column("FLOPs/token", "FLOPs of a training step per token"),
        *([Column("cost to reach", _COST_TOOLTIP.format(outcome.baseline))] if outcome.baseline_lengths else []),
    ]


def _row(outcome: Outcome, analysis: Analysis, name: str, link: str) -> Row:
    variant = next(variant for variant in outcome.variants if variant.name == name)
    comparison = next((c for c in analysis.comparisons if c.variant == name), None)
    mean = analysis.ranking.get(name)
    n, n_trials = mean.n if mean else 0, len(outcome.trials_of(name))
    verdict = comparison.verdict if comparison else "baseline"
    p = comparison.p_adjusted if comparison else None
    effect_size = comparison.effect_size if comparison else None
    detectable = comparison.detectable if comparison else None
    flops = variant.flops_per_token
    cost = next((cost for cost in analysis.costs if cost.variant == name), None)
    return Row(
        name,
        [
            Cell(name, name, numeric=False, link=link),
            _estimate_cell(mean),
            Cell(f"{n}/{n_trials}" if n_trials else MISSING, str(n)),
            _estimate_cell(comparison.difference if comparison else None),
            Cell("", verdict, numeric=False, verdict=verdict),
            Cell(format_p_value(p), sort_value(p)),
            Cell(format_two_digits(effect_size), sort_value(effect_size)),
            Cell(format_two_digits(detectable), sort_value(detectable)),
            Cell(scaled(variant.n_parameters), sort_value(variant.n_parameters)),
            Cell(MISSING if flops is None else scaled(flops), sort_value(flops)),
            *([_cost_cell(cost)] if outcome.baseline_lengths else []),
        ],
    )


def sort_value(value: float | None) -> str:
    """Return a number with full precision, or "" for None."""
    return "" if value is None else repr(value)


def _cost_cell(cost: CostToReach | None) -> Cell:
    if cost is None:
        return Cell(MISSING, "")
    ends = {"shortest": cost.shortest, "longest": cost.longest}  # by which a value beyond the lengths is sorted
    return Cell(describe_multiple(cost), sort_value(ends.get(cost.beyond, cost.multiple.value)))


def _estimate_cell(estimate: Estimate | None) -> Cell:
    value = sort_value(estimate.value if estimate else None)
    return Cell(format_value(estimate), value, interval=format_interval(estimate))
