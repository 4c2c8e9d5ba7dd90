"""The entry point of a scaling ladder: from its spec to its result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.ablate import ProgressCallback, ablate
from gptzoo.ablation.planning.folder import check_same_ablation, read_outcome
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.scaling.analyse import LadderAnalysis, analyse_ladder
from gptzoo.ablation.scaling.ladder_spec import LadderSpec, load_ladder_spec
from gptzoo.ablation.scaling.plan_ladder import AXIS, LadderPlan, plan_ladder
from gptzoo.ablation.scaling.power_law import ScalingPoint
from gptzoo.ablation.wording import describe_failures, format_count, listed
from gptzoo.errors import FolderError, InputError


@dataclass(frozen=True)
class LadderResult:
    """The result of a ladder, finished or not."""

    plan: LadderPlan
    outcome: Outcome
    analysis: LadderAnalysis | None  # None while the results do not determine the laws
    missing: str  # why there is no analysis; "" if there is one
    caveats: tuple[str, ...]  # reasons to doubt the multipliers besides the statistics

    @property
    def failed(self) -> bool:
        """True if a trial ended without a result."""
        return any(self.outcome.failures(variant.name) for variant in self.outcome.variants)


def ladder(
    spec: LadderSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    retry_failed: bool = False,
    on_plan: Callable[[LadderPlan, Plan], None] = lambda ladder_plan, plan: None,
    on_progress: ProgressCallback = lambda trials, runner, states: None,
) -> LadderResult:
    """Run the trials of a ladder that are not done yet, in the folder `out`, and return the result.

    The folder is that of an ablation, so it can be resumed, and sizes, variants and seeds can be added later.

    Raises InputError for invalid input, and Interrupted after a signal, when the running trials have saved a
    checkpoint.
    """
    if not isinstance(spec, LadderSpec):
        spec = load_ladder_spec(spec)
    folder = Path(out)
    plan = plan_ladder(spec)
    check_same_ladder(folder, plan)

    def on_ablation_plan(ablation_plan: Plan) -> None:
        check_plan(plan, ablation_plan)
        on_plan(plan, ablation_plan)

    ablate(plan.ablation, folder, retry_failed=retry_failed, on_plan=on_ablation_plan, on_progress=on_progress)
    return read_ladder(plan, folder)


def check_same_ladder(folder: Path, plan: LadderPlan) -> None:
    """Raise FolderError if the folder has other contents, or runs of the same name that this ladder changes."""
    check_same_ablation(folder, plan.ablation)
    if not (folder / "variants.json").is_file():
        return
    stored = read_outcome(folder).spec["axes"]
    choices = stored.get(AXIS, {}).get("choices")
    if not isinstance(choices, dict) or len(stored) != 1:
        raise FolderError(f"{folder}: contains an ablation that is no ladder; choose another --out")
    for run in plan.runs:
        if run.label in choices and choices[run.label] != run.fields:
            raise FolderError(
                f"{folder}: has results of {run.label} under another rule or with other fields; choose another --out"
            )


def check_plan(plan: LadderPlan, ablation_plan: Plan) -> None:
    """Raise InputError if the ablation cannot train or count the cost of some run of the ladder."""
    planned = {variant.choices[AXIS]: variant for variant in ablation_plan.variants}
    for run in plan.runs:
        if run.label not in planned:
            reasons = [e.reason for e in ablation_plan.exclusions if e.choices.get(AXIS) == run.label]
            reason = reasons[0] if reasons else "it is the same run as another variant"
            raise InputError(f"{plan.spec.name}: {run.label} cannot be trained: {reason}")
        if planned[run.label].flops is None:
            unknown = planned[run.label].costs.unknown
            raise InputError(f"{plan.spec.name}: the training FLOPs of {run.label} cannot be counted: {unknown}")


def read_ladder(plan: LadderPlan, folder: str | Path) -> LadderResult:
    """Read the result of a ladder, finished or not, from its folder. Raises FolderError."""
    outcome = read_outcome(folder)
    fitted, held_out = _points(plan, outcome)
    analysis, missing = None, ""
    try:
        analysis = analyse_ladder(fitted, plan.runs[0].variant, held_out=held_out, factors=plan.spec.extrapolate)
    except ValueError as error:
        missing = str(error)
    return LadderResult(plan, outcome, analysis, missing, tuple(_caveats(plan, outcome)))


def _points(plan: LadderPlan, outcome: Outcome) -> tuple[list[ScalingPoint], list[ScalingPoint]]:
    """Return the points of the fitted and of the held-out sizes that have results."""
    points: tuple[list[ScalingPoint], list[ScalingPoint]] = ([], [])
    runs = {run.label: run for run in plan.runs}
    for variant in outcome.variants:
        run, losses = runs.get(variant.choices[AXIS]), tuple(outcome.endpoints(variant.name).values())
        if run is not None and losses and variant.flops is not None and variant.tokens is not None:
            point = ScalingPoint(run.variant, run.n_parameters, variant.tokens, variant.flops, losses)
            points[run.held_out].append(point)
    return points


def _caveats(plan: LadderPlan, outcome: Outcome) -> Iterator[str]:
    yield from plan_caveats(plan)
    for variant in outcome.variants:
        if failed := outcome.failures(variant.name):
            yield f"{variant.name}: {describe_failures(failed, len(outcome.trials_of(variant.name)))}"
    waiting = [trial for trial in outcome.trials if trial.state in ("waiting", "running")]
    if waiting:
        yield f"{format_count(len(waiting), 'trial')} not done yet"


def plan_caveats(plan: LadderPlan) -> Iterable[str]:
    """Yield the reasons to doubt the multipliers that follow from the plan alone."""
    repeating = [run for run in plan.runs if run.repeats is not None and run.repeats > 1]
    if repeating:
        most = max(run.repeats or 0 for run in repeating)
        yield (
            f"{listed([run.label for run in repeating], len(plan.runs))} read their training text more than once, up "
            f"to {most:.3g} times, so the loss depends on the amount of text, too. Use a larger corpus"
        )
    if plan.spec.tune is None:
        yield (
            "the learning rates follow the rule and are not tuned for each variant and size, so a multiplier may be "
            'one of tuning. Set "tune"'
        )
