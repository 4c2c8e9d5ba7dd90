"""The result of a ladder, read from its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo.ablation.comparison.result import WarningResult
from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.scaling.analyse import analyse_ladder
from gptzoo.ablation.scaling.folder import read_ladder_files
from gptzoo.ablation.scaling.ladder_spec import BASELINE
from gptzoo.ablation.scaling.plan_ladder import AXIS
from gptzoo.ablation.scaling.power_law import ScalingPoint
from gptzoo.ablation.scaling.result import LadderAnalysis, LadderResult, LadderRun, TunedRun
from gptzoo.ablation.scaling.sentences import ladder_sentences
from gptzoo.ablation.scaling.warnings import ladder_warnings
from gptzoo.ablation.statistics.training import describe_training
from gptzoo.ablation.wording import format_count, unit_of


def read_ladder(folder: str | Path) -> LadderResult:
    """Read the result of a ladder, finished or not, from its folder. Raises FolderError."""
    return ladder_result(*read_ladder_files(Path(folder)), read_outcome(folder))


def ladder_result(spec: Mapping[str, Any], runs: Sequence[LadderRun], outcome: Outcome) -> LadderResult:
    """Return the result of a ladder, from its spec as JSON, its runs, and the outcome of its ablation."""
    analysis, missing = _analyse(outcome, runs, spec["extrapolate"])
    states = Counter(trial.state for trial in outcome.trials)
    n_variants, n_sizes = len({run.variant for run in runs}), len({run.n_layers for run in runs})
    return LadderResult(
        name=spec["name"],
        trained=describe_training(
            outcome, models=f"{format_count(n_variants, 'variant')} at {format_count(n_sizes, 'size')}"
        ),
        findings=()
        if analysis is None
        else tuple(ladder_sentences(analysis, tuple(spec["extrapolate"]), outcome.metric)),
        warnings=tuple(
            map(WarningResult.of, ladder_warnings(runs, is_tuned=spec["tune"] is not None, outcome=outcome))
        ),
        metric=outcome.metric,
        unit=unit_of(outcome.metric),
        analysis=analysis,
        missing=missing,
        runs=tuple(runs),
        tuned=tuple(_tuned(outcome, runs)),
        n_trials=len(outcome.trials),
        n_failed=sum(len(outcome.failures(variant.name)) for variant in outcome.variants),
        n_waiting=states["waiting"] + states["running"],
        folder=str(outcome.folder),
        environment=dict(outcome.environment),
    )


def _tuned(outcome: Outcome, runs: Sequence[LadderRun]) -> Iterator[TunedRun]:
    chosen = {variant.choices[AXIS]: variant.tuned for variant in outcome.variants}
    for run in runs:
        if text := chosen.get(run.label):
            yield TunedRun(label=run.label, chosen=text)


def _analyse(
    outcome: Outcome, runs: Sequence[LadderRun], factors: Sequence[float]
) -> tuple[LadderAnalysis | None, str]:
    """Return the laws, or None and the reason why the results do not determine them."""
    fitted, held_out = _points(outcome, runs)
    try:
        return analyse_ladder(fitted, BASELINE, held_out=held_out, factors=factors), ""
    except ValueError as error:
        return None, str(error)


def _points(outcome: Outcome, runs: Sequence[LadderRun]) -> tuple[list[ScalingPoint], list[ScalingPoint]]:
    """Return the points of the fitted and of the held-out sizes that have results."""
    points: tuple[list[ScalingPoint], list[ScalingPoint]] = ([], [])
    variants = {variant.choices[AXIS]: variant for variant in outcome.variants}
    for run in runs:
        variant = variants.get(run.label)
        if variant is None or variant.flops is None or variant.tokens is None:
            continue
        if losses := tuple(outcome.endpoints(variant.name).values()):
            point = ScalingPoint(run.variant, run.n_parameters, variant.tokens, variant.flops, losses)
            points[run.held_out].append(point)
    return points
