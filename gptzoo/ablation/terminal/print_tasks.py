"""The results on synthetic tasks, as a table for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.terminal.text_table import plain_table


def print_tasks(analysis: Analysis, console: Console) -> None:
    """Print the mean of each model on each synthetic task. Print nothing without such tasks."""
    if not analysis.tasks:
        return
    table = plain_table("task", "model", ">mean", ">solved", ">chance", ">length", ">state bytes")
    for result in analysis.tasks:
        size = result.metric.state_bytes
        table.add_row(
            result.column,
            result.model,
            "-" if result.mean is None else f"{result.mean.value:.4f}",
            f"{result.n_solved}/{len(result.values)}",
            f"{result.metric.chance:.4f}",
            f"{result.metric.length:,}",
            "-" if size is None else f"{size:,}",
        )
    console.print()
    console.print(table)


def tasks_as_dict(analysis: Analysis) -> list[dict[str, Any]]:
    """Convert the results to JSON."""
    return [{**asdict(r), "values": {str(seed): value for seed, value in r.values.items()}} for r in analysis.tasks]
