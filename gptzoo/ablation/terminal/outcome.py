"""What an ablation has found, as a person or a script reads it. The same files give the same text, byte for byte."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

from rich.console import Console

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.terminal.selection import print_rungs, selection_as_dict
from gptzoo.ablation.terminal.tables import plain_table
from gptzoo.training.run.verify_resume import CLOCKED


def print_outcome(outcome: Outcome, console: Console) -> None:
    """A row for each variant, best first; then what may be said of each, every failure, and what else to know."""
    analysis = analyse(_without_clock(outcome))
    sentences = {comparison.variant: comparison for comparison in analysis.comparisons}
    selection = outcome.selection
    if selection is not None and selection.rungs:
        print_rungs(selection, console)
    rest = [one.variant for one in analysis.comparisons if one.variant not in analysis.ranking]
    if outcome.baseline not in analysis.ranking:
        rest.insert(0, outcome.baseline)
    sizes = {variant.name: variant.n_parameters for variant in outcome.variants}
    table = plain_table("variant", ">seeds", f">{outcome.metric}", ">sd", ">parameters", "")
    for name in (*analysis.ranking, *rest):
        values = list(outcome.endpoints(name).values())
        verdict = "the baseline" if name == outcome.baseline else sentences[name].verdict
        told = "" if selection is None else selection.describe(name, outcome.metric)
        table.add_row(
            name,
            f"{len(values)}/{len(outcome.trials_of(name))}" if not told else "-",
            f"{statistics.fmean(values):.4f}" if values else "-",
            f"{statistics.stdev(values):.4f}" if len(values) > 1 else "-",
            f"{sizes[name]:,}",
            told or verdict,
        )
    console.print(table)
    compared = [one.sentence for one in analysis.comparisons if one.variant in outcome.compared]
    lines = ["", *compared, *analysis.notes]
    lines += [
        f"failed: {trial.variant} seed {trial.seed}: {trial.reason}"
        for trial in outcome.trials
        if trial.state == "failed"
    ]
    if selection is not None:
        lines += [f"failed: {told}" for told in selection.failures()]
    counts = Counter(trial.state for trial in outcome.trials)
    told = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
    for line in (*lines, f"{outcome.name}: {len(outcome.trials)} trials: {told}"):
        console.print(line, markup=False, soft_wrap=True)


def _without_clock(outcome: Outcome) -> Outcome:
    """The outcome without what is another at each run of the same trials; the report has it."""
    trials = [
        replace(trial, rows=[{name: v for name, v in row.items() if name not in CLOCKED} for row in trial.rows])
        for trial in outcome.trials
    ]
    return replace(outcome, trials=trials)


def outcome_as_dict(outcome: Outcome) -> dict[str, Any]:
    """What has been found, as data: the verdicts, and each trial with its state and the metric at its end."""
    analysis = analyse(_without_clock(outcome))
    return {
        "name": outcome.name,
        "baseline": outcome.baseline,
        "metric": outcome.metric,
        "states": dict(Counter(trial.state for trial in outcome.trials)),
        "verdicts": {one.variant: {"verdict": one.verdict, "sentence": one.sentence} for one in analysis.comparisons},
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
        "notes": list(analysis.notes),
    }
