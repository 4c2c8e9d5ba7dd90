"""The grids of tuned variants, as a table for the terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.tuning import GridValue
from gptzoo.ablation.warnings.tuning import tuned_variants
from gptzoo.terminal.text_table import plain_table, print_lines


def print_tuning(outcome: Outcome, console: Console) -> None:
    """Print the chosen value of each tuned variant and the results of its grid. Print nothing without tuning."""
    tuned = tuned_variants(outcome)
    if not tuned:
        return
    first = tuned[0][1]
    seeds = ", ".join(map(str, first.seeds))
    heading = f"{first.field} was tuned for each variant before the comparison, by the mean {outcome.metric} of seed"
    print_lines(console, [f"{heading} {seeds}:"])
    table = plain_table("variant", ">chosen", "edge", "grid")
    for variant, tuning in tuned:
        chosen = "-" if tuning.best is None else f"{tuning.best:g}"
        grid = "  ".join(map(_format_value, tuning.grid))
        table.add_row(variant.name, chosen, tuning.edge or ("" if tuning.best is not None else "open"), grid)
    console.print(table)
    console.print()


def tuning_as_dict(outcome: Outcome) -> list[dict[str, Any]] | None:
    """Convert the grids to JSON; None without tuning."""
    tuned = tuned_variants(outcome)
    return [{"variant": variant.name, **asdict(tuning)} for variant, tuning in tuned] if tuned else None


def _format_value(value: GridValue) -> str:
    return f"{value.value:g}: {'-' if value.mean is None else format(value.mean, '.4f')}"
