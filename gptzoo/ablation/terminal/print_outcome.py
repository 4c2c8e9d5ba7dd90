"""The outcome of an ablation, as text and as JSON. The same files give the same text, byte for byte."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from gptzoo.ablation.machine_metrics import without_machine_metrics
from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.terminal.print_rungs import print_rungs, selection_as_dict
from gptzoo.ablation.terminal.print_scores import print_scores, scores_as_dict
from gptzoo.ablation.terminal.print_tasks import print_tasks, tasks_as_dict
from gptzoo.ablation.terminal.print_tuning import print_tuning, tuning_as_dict
from gptzoo.ablation.terminal.tables import plain_table


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print the rungs, a table of the variants, the verdicts, the failures and the notes."""
    analysis = analyse(without_machine_metrics(outcome))
    selection = outcome.selection
    if selection is not None and selection.rungs:
        print_rungs(selection, console)
    print_tuning(outcome, console)
    console.print(_variants_table(outcome, analysis))
    print_scores(analysis, console)
    print_tasks(analysis, console)
    compared = [comparison.sentence for comparison in analysis.comparisons if comparison.variant in outcome.compared]
    warnings = [f"Warning: {warning.text}" for warning in analysis.warnings]
    lines = ["", analysis.trained, *warnings, *compared, *analysis.notes]
    lines += [
        f"failed: {trial.variant} seed {trial.seed}: {trial.reason}"
        for trial in outcome.trials
        if trial.state == "failed"
    ]
    if selection is not None:
        lines += [f"failed: {failure}" for failure in selection.failures()]
    counts = ", ".join(f"{n} {state}" for state, n in sorted(_count_states(outcome).items()))
    lines.append(f"{outcome.name}: {len(outcome.trials)} trials: {counts}")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _variants_table(outcome: Outcome, analysis: Analysis) -> Table:
    """Create a table with a row for each variant, best first; variants without data come last."""
    verdicts = {comparison.variant: comparison.verdict for comparison in analysis.comparisons}
    without_data = [name for name in verdicts if name not in analysis.ranking]
    without_data[:0] = [name for name in outcome.baselines if name not in analysis.ranking]
    sizes = {variant.name: variant.n_parameters for variant in outcome.variants}
    selection = outcome.selection
    table = plain_table("variant", ">seeds", f">{outcome.metric}", ">sd", ">parameters", "")
    for name in (*analysis.ranking, *without_data):
        values = list(outcome.endpoints(name).values())
        is_baseline = name == outcome.baseline
        verdict = "the baseline" if is_baseline else verdicts.get(name, "the baseline of its task")
        progress = "" if selection is None else selection.describe(name, outcome.metric)
        table.add_row(
            name,
            f"{len(values)}/{len(outcome.trials_of(name))}" if not progress else "-",
            f"{statistics.fmean(values):.4f}" if values else "-",
            f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-",
            f"{sizes[name]:,}",
            progress or verdict,
        )
    return table


def outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    """Convert the outcome to JSON: the verdicts, and the state and final metric of each trial."""
    analysis = analyse(without_machine_metrics(outcome))
    left_out = {variant.name: list(variant.left_out) for variant in outcome.variants}
    return {
        "name": outcome.name,
        "baseline": outcome.baseline,
        "metric": outcome.metric,
        "higher_is_better": outcome.higher_is_better,
        "states": dict(_count_states(outcome)),
        "verdicts": {
            comparison.variant: {
                "verdict": comparison.verdict,
                "sentence": comparison.sentence,
                "left_out": left_out[comparison.variant],
            }
            for comparison in analysis.comparisons
        },
        "trials": [
            {
                "variant": trial.variant,
                "seed": trial.seed,
                "state": trial.state,
                "reason": trial.reason,
                outcome.metric: trial.last(outcome.metric),
            }
            for trial in outcome.trials
        ],
        "selection": None if outcome.selection is None else selection_as_dict(outcome.selection),
        "tuning": tuning_as_dict(outcome),
        "trained": analysis.trained,
        "unit": analysis.unit,
        "warnings": [asdict(warning) for warning in analysis.warnings],
        # Programs that read the notes of older versions look for the warnings there.
        "notes": [*(f"Warning: {warning.text}" for warning in analysis.warnings), *analysis.notes],
        **({"tasks": tasks_as_dict(analysis)} if analysis.tasks else {}),
        **({"scores": scores_as_dict(analysis)} if outcome.spec.get("harness") else {}),
    }


def _count_states(outcome: Outcome) -> Counter[str]:
    return Counter(trial.state for trial in outcome.trials)
