"""The scores on tasks of lm-evaluation-harness, as a table for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console

from gptzoo.ablation.records.analysis import Analysis, Estimate
from gptzoo.ablation.wording import better_direction
from gptzoo.terminal.text_table import plain_table


def print_scores(analysis: Analysis, console: Console) -> None:
    """Print the mean score of each variant on each task. Print nothing without scores."""
    if not analysis.scores:
        return
    table = plain_table("task", "metric", "variant", ">seeds", ">mean", ">sd", ">difference", "")
    for score in analysis.scores:
        mean, difference = score.mean, score.difference
        interval = "" if difference is None else _interval(difference)
        table.add_row(
            score.task,
            f"{score.metric} ({better_direction(score.higher_is_better)})",
            score.variant,
            str(len(score.values)),
            "-" if mean is None else f"{mean.value:.4f}",
            "-" if mean is None or mean.sd is None else f"{mean.sd:.4f}",
            "" if difference is None else f"{difference.value:+.4f}{interval}",
            score.verdict or "the baseline",
        )
    console.print()
    console.print(table)


def scores_as_dict(analysis: Analysis) -> list[dict[str, Any]]:
    """Convert the scores to JSON."""
    return [{**asdict(s), "values": {str(seed): v for seed, v in s.values.items()}} for s in analysis.scores]


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None or estimate.high is None else f" ({estimate.low:+.4f} to {estimate.high:+.4f})"
