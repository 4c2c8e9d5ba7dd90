"""The entry point of a scaling ladder: from its spec to its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gptzoo.ablation.ablate import ProgressCallback, ablate
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.scaling.folder import check_same_ladder, write_ladder
from gptzoo.ablation.scaling.ladder_spec import LadderSpec, load_ladder_spec
from gptzoo.ablation.scaling.plan_ladder import AXIS, LadderPlan, plan_ladder
from gptzoo.ablation.scaling.read_result import read_ladder
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.errors import InputError


def ladder(
    spec: LadderSpec | str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    retry_failed: bool = False,
    on_plan: Callable[[LadderPlan, Plan], None] = lambda ladder_plan, plan: None,
    on_progress: ProgressCallback = lambda trials, runner, states: None,
) -> LadderResult:
    """Train the variants of a scaling ladder at all sizes, and return how much compute each variant saves.

    spec: the ladder, as a path, a dict or a spec.
    out: folder of the ladder. Finished trials in it are not run again, so an interrupted ladder continues, and sizes,
        variants and seeds can be added later.
    retry_failed: run the trials that failed earlier again.
    on_plan: called with the plan of the ladder and that of its ablation before anything runs.
    on_progress: called with the states of the trials whenever they may have changed.

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
        write_ladder(folder, plan)
        on_plan(plan, ablation_plan)

    ablate(plan.ablation, folder, retry_failed=retry_failed, on_plan=on_ablation_plan, on_progress=on_progress)
    return read_ladder(folder)


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
