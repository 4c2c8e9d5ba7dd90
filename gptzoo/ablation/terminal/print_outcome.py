"""The outcome of an ablation, as text and as JSON. The same files give the same text, byte for byte."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict
from typing import Any

from rich.console import Console

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.statistics.analyse import analyse_reproducibly
from gptzoo.ablation.terminal.print_rungs import print_rungs, selection_as_dict
from gptzoo.ablation.terminal.print_scores import print_scores, scores_as_dict
from gptzoo.ablation.terminal.print_tasks import print_tasks, tasks_as_dict
from gptzoo.ablation.terminal.print_tuning import print_tuning, tuning_as_dict
from gptzoo.ablation.wording import format_count
from gptzoo.terminal.text_table import plain_table


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print the rungs, a table of the variants, the verdicts, the failures and the notes."""
    analysis = analyse_reproducibly(outcome)
    selection = outcome.selection
    if selection is not None and selection.rungs:
        print_rungs(selection, console)
    print_tuning(outcome, console)
    header, *rows = variant_rows(outcome, analysis)
    table = plain_table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    _print_lengths(outcome, console)
    print_scores(analysis, console)
    print_tasks(analysis, console)
    for line in ("", *outcome_sentences(outcome, analysis)):
        console.print(line, markup=False, soft_wrap=True)


def outcome_sentences(outcome: Outcome, analysis: Analysis) -> list[str]:
    """Return the trained models, the warnings, the verdicts, the notes and the failures as sentences."""
    selection = outcome.selection
    compared = [comparison.sentence for comparison in analysis.comparisons if comparison.variant in outcome.compared]
    warnings = map(str, analysis.warnings)
    costs = [cost.sentence for cost in analysis.costs]
    lines = [analysis.trained, *warnings, *compared, *costs, *analysis.notes]
    lines += [
        f"failed: {trial.variant} seed {trial.seed}: {trial.reason}"
        for trial in outcome.all_trials
        if trial.state == "failed"
    ]
    if selection is not None:
        lines += [f"failed: {failure}" for failure in selection.failures()]
    counts = ", ".join(f"{n} {state}" for state, n in sorted(_count_states(outcome).items()))
    lines.append(f"{outcome.name}: {format_count(len(outcome.all_trials), 'trial')}: {counts}")
    return lines


def variant_rows(outcome: Outcome, analysis: Analysis) -> list[tuple[str, ...]]:
    """Return a table with a row for each variant, best first; variants without data come last.

    The first row has the names of the columns, and those of numbers start with ">".
    """
    verdicts = {comparison.variant: comparison.verdict for comparison in analysis.comparisons}
    without_data = [name for name in verdicts if name not in analysis.ranking]
    without_data[:0] = [name for name in outcome.baselines if name not in analysis.ranking]
    sizes = {variant.name: variant.n_parameters for variant in outcome.variants}
    selection = outcome.selection
    rows: list[tuple[str, ...]] = [("variant", ">seeds", f">{outcome.metric}", ">sd", ">parameters", "")]
    for name in (*analysis.ranking, *without_data):
        values = list(outcome.endpoints(name).values())
        is_baseline = name == outcome.baseline
        verdict = "the baseline" if is_baseline else verdicts.get(name, "the baseline of its task")
        progress = "" if selection is None else selection.describe(name, outcome.metric)
        rows.append(
            (
                name,
                f"{len(values)}/{len(outcome.trials_of(name))}" if not progress else "-",
                f"{statistics.fmean(values):.4f}" if values else "-",
                f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-",
                f"{sizes[name]:,}",
                progress or verdict,
            )
        )
    return rows


def _print_lengths(outcome: Outcome, console: Console) -> None:
    """Print a table of the baseline at other lengths, which is not ranked. Print nothing without them."""
    if not outcome.baseline_lengths:
        return
    table = plain_table("baseline at other lengths", ">steps", ">seeds", f">{outcome.metric}", ">sd")
    for length in outcome.baseline_lengths:
        values = [value for trial in length.trials if (value := trial.last(outcome.metric)) is not None]
        table.add_row(
            f"{outcome.baseline} x{length.multiple:g}",
            f"{length.steps:,}",
            f"{len(values)}/{len(length.trials)}",
            f"{statistics.fmean(values):.4f}" if values else "-",
            f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-",
        )
    console.print()
    console.print(table)


def outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    """Convert the outcome to JSON: the verdicts, and the state and final metric of each trial."""
    analysis = analyse_reproducibly(outcome)
    left_out = {variant.name: list(variant.left_out) for variant in outcome.variants}
    costs = {cost.variant: asdict(cost) for cost in analysis.costs}
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
                **({"cost_to_reach": costs.get(comparison.variant)} if outcome.baseline_lengths else {}),
            }
            for comparison in analysis.comparisons
        },
        "trials": [_trial_as_dict(trial, outcome.metric) for trial in outcome.trials],
        **({"baseline_lengths": _lengths_as_dicts(outcome)} if outcome.baseline_lengths else {}),
        "selection": None if outcome.selection is None else selection_as_dict(outcome.selection),
        "tuning": tuning_as_dict(outcome),
        "trained": analysis.trained,
        "unit": analysis.unit,
        "warnings": [asdict(warning) for warning in analysis.warnings],
        # Programs that read the notes of older versions look for the warnings there.
        "notes": [*map(str, analysis.warnings), *analysis.notes],
        **({"tasks": tasks_as_dict(analysis)} if analysis.tasks else {}),
        **({"scores": scores_as_dict(analysis)} if outcome.spec.get("harness") else {}),
    }


def _trial_as_dict(trial: TrialOutcome, metric: str) -> dict[str, Any]:
    return {
        "variant": trial.variant,
        "seed": trial.seed,
        "state": trial.state,
        "reason": trial.reason,
        metric: trial.last(metric),
    }


def _lengths_as_dicts(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {
            "multiple": length.multiple,
            "steps": length.steps,
            "trials": [_trial_as_dict(trial, outcome.metric) for trial in length.trials],
        }
        for length in outcome.baseline_lengths
    ]


def _count_states(outcome: Outcome) -> Counter[str]:
    return Counter(trial.state for trial in outcome.all_trials)
