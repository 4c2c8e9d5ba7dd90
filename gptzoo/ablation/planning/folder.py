"""The folder of an ablation: what it is, what it enumerates, and its trials; and the outcome that these files tell.

ablation.json    the spec, its base inline
variants.json    the variants that it enumerates with their costs, and which folders their trials have
calibration/     a few steps of each variant, where a budget in seconds asked for them
trials/<variant>-seed<n>-<hash of the spec>/    a run each (`gptzoo.ablation.execution.trial`)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.trial import TrialFolder
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.outcome import Exclusion, Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.selection.rungs import Contest
from gptzoo.ablation.selection.trial_results import trial_outcome
from gptzoo.errors import FolderError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.json_diff import differences
from gptzoo.utils.atomic import PREFIX, write_json

_FIXED = ("base", "budget", "match", "tune")
"""What may not change while trials are there: it would make all of them others."""


def written(spec: AblationSpec) -> dict[str, Any]:
    """The spec as its folder keeps it."""
    return spec.model_dump(mode="json")


def refuse_another(folder: Path, spec: AblationSpec) -> None:
    """Raise FolderError if the folder holds an ablation of another base, or of other rules."""
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder}: is a file; choose another --out")
    file = folder / "ablation.json"
    if not file.exists():
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        used = {name for name in names - {"calibration"} if not name.startswith(PREFIX)}
        if used and not file.exists():  # which another runner may have written just now
            raise FolderError(f"{folder}: is used, and not by an ablation; choose another --out")
        if not used:
            return
    before, now = _read(folder / "ablation.json"), written(spec)
    changes = [c for name in _FIXED for c in differences(before.get(name), now.get(name), f"$.{name}")]
    if changes:
        told = "; ".join(f"{c.name} was {json.dumps(c.a)}, is {json.dumps(c.b)}" for c in changes)
        raise FolderError(f"{folder}: holds another ablation: {told}; choose another --out")


def write_plan(folder: Path, plan: Plan) -> None:
    """Keep what is going to be done. Raises FolderError as `refuse_another` does, or where it cannot be written."""
    refuse_another(folder, plan.spec)
    design = {
        "baseline": plan.baseline,
        "axes": plan.axes,
        "factorial": plan.factorial,
        "paired": plan.paired,
        "variants": [asdict(variant.as_variant()) for variant in plan.variants],
        "exclusions": [asdict(exclusion) for exclusion in plan.exclusions],
        "trials": trials_as_dicts(plan),
        "contest": None if plan.contest is None else asdict(plan.contest),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # First what says that the folder is an ablation's: another runner may begin between the two.
        for name, value in (("ablation.json", written(plan.spec)), ("variants.json", design)):
            if not (folder / name).exists() or _read(folder / name) != json.loads(json.dumps(value)):
                write_json(folder / name, value)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written: {error.strerror or error}; choose another --out") from None


def trials_as_dicts(plan: Plan) -> list[dict[str, Any]]:
    """The trials of the comparison as data; those of a variant that cannot be tuned have no folder."""
    planned = [{"variant": trial.variant, "seed": trial.seed, "folder": trial.name} for trial in plan.trials]
    hopeless = [
        {"variant": variant.name, "seed": seed, "folder": None, "reason": variant.tuned}
        for variant in plan.variants
        if variant.hopeless
        for seed in sorted(plan.spec.seeds)
    ]
    return planned + hopeless


def read_outcome(folder: str | Path) -> Outcome:
    """What an ablation has found so far, all of it from the files in its folder. Raises FolderError."""
    path = Path(folder)
    if not (path / "ablation.json").is_file() or not (path / "variants.json").is_file():
        raise FolderError(f"{path}: no ablation's folder; it would have ablation.json and variants.json")
    spec, design = _read(path / "ablation.json"), _read(path / "variants.json")
    contest = design.get("contest")
    trials = [_trial(path, trial, spec.get("samples", True)) for trial in design["trials"]]
    return Outcome(
        name=spec["name"],
        folder=path,
        baseline=design["baseline"],
        axes=design["axes"],
        factorial=design["factorial"],
        metric=spec["metric"],
        paired=design["paired"],
        margin=spec["margin"],
        alpha=spec["alpha"],
        power=spec["power"],
        variants=[Variant(**variant) for variant in design["variants"]],
        trials=trials,
        exclusions=[Exclusion(**exclusion) for exclusion in design["exclusions"]],
        spec=spec,
        environment=_environment(path, design["trials"]),
        selection=None if contest is None else Contest(**contest).held(path, spec["metric"]),
    )


def _trial(path: Path, trial: Mapping[str, Any], wants_sample: bool) -> TrialOutcome:
    if trial["folder"] is None:  # nothing to run: all tries of tuning failed
        return TrialOutcome(trial["variant"], trial["seed"], "failed", trial["reason"])
    folder = TrialFolder(path / "trials" / trial["folder"], wants_sample=wants_sample)
    return trial_outcome(folder, trial["variant"], trial["seed"])


def _environment(path: Path, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """That of the first trial in order that has one."""
    files = (path / "trials" / trial["folder"] / "environment.json" for trial in trials if trial["folder"])
    return next((_read(file) for file in files if file.is_file()), {})


def _read(file: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FolderError(f"{file}: cannot be read: {error}") from None
    return value
