"""The progress of a plan on stderr: how many variants are counted and measured."""

from __future__ import annotations

from rich.console import Console

from gptzoo.ablation.design.costs import PlanProgress

_MIN_VARIANTS = 4  # fewer take no longer than the start of a command


def print_progress(console: Console) -> PlanProgress:
    """Return a function that prints each stage of a plan, and in a terminal updates the number of variants."""
    printed: dict[str, int] = {}

    def report(stage: str, n_done: int, n_variants: int) -> None:
        if n_variants < _MIN_VARIANTS or printed.get(stage) == n_done:
            return
        if console.is_terminal:
            console.print(f"{stage}: {n_done}/{n_variants}", end="\n" if n_done == n_variants else "\r")
        elif stage not in printed:
            console.print(f"{stage} of {n_variants} variants")
        printed[stage] = n_done

    return report
