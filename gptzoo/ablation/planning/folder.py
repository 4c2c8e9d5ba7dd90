"""The folder of an ablation, with functions that write its plan and read its outcome.

ablation.json    the spec, with the base inline
variants.json    the variants with their costs, the folder of each trial, and the names and hashes of plugin files
plugins/         the sources of plugin files, as a record; see `gptzoo.checkpoint.plugin_files`
calibration/     a few steps of each variant, if the budget is in seconds
trials/<variant>-seed<n>-<hash of the spec>/    the run of a trial; see `gptzoo.ablation.execution.trial_folder`
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.outcome import BaselineLength, Exclusion, Outcome, Variant
from gptzoo.ablation.records.tasks import TaskMetric
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.records.tuning import Tuning
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.selection.halving_plan import HalvingPlan
from gptzoo.ablation.selection.trial_results import read_trial_outcome, with_same_text, with_scores
from gptzoo.checkpoint.plugin_files import PluginFile, keep_plugin_files, loaded_plugin_files
from gptzoo.checkpoint.records import check_sum, read_record, with_checksum
from gptzoo.errors import FolderError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.ablation_fairness import level_of_look
from gptzoo.utils.atomic import INCOMPLETE_PREFIX, write_json
from gptzoo.utils.json_diff import differences

_SPEC_TYPES: dict[str, Any] = {"name": str, "metric": str, **dict.fromkeys(("margin", "alpha", "power"), (int, float))}
_FIXED_FIELDS = ("base", "budget", "match", "tune", "held_out")  # a change of these would change every trial


def check_same_ablation(folder: Path, spec: AblationSpec) -> None:
    """Raise FolderError if the folder has other contents, or an ablation that differs in one of `_FIXED_FIELDS`."""
    if folder.exists() and not folder.is_dir():
        raise FolderError(f"{folder}: is a file; choose another --out")
    file = folder / "ablation.json"
    if not file.exists():
        names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        used = {name for name in names - {"calibration"} if not name.startswith(INCOMPLETE_PREFIX)}
        if used and not file.exists():  # another runner may have written it since
            raise FolderError(f"{folder}: is not empty and has no ablation.json; choose another --out")
        if not used:
            return
    before, now = (_without_changeable(of) for of in (read_record(folder / "ablation.json"), _spec_json(spec)))
    changes = [c for name in _FIXED_FIELDS for c in differences(before.get(name), now.get(name), f"$.{name}")]
    if changes:
        listed = "; ".join(f"{c.name} was {json.dumps(c.a)}, is {json.dumps(c.b)}" for c in changes)
        raise FolderError(f"{folder}: contains a different ablation: {listed}; choose another --out")


def with_recorded_axes(folder: Path, spec: AblationSpec) -> AblationSpec:
    """Return the ablation with `recommended` decided for every axis: by its spec, else by the folder, else true.

    An axis that the folder has recorded without the option keeps its variants without recommended settings, so that
    the trials of older versions stay those of the ablation.
    """
    file = folder / "ablation.json"
    recorded = read_record(file).get("axes") if file.is_file() else None
    axes = {}
    for name, axis in spec.axes.items():
        before = recorded.get(name) if isinstance(recorded, dict) else None
        default = before.get("recommended", False) if isinstance(before, dict) else True
        decided = default if axis.recommended is None else axis.recommended
        axes[name] = axis.model_copy(update={"recommended": decided})
    return spec.model_copy(update={"axes": axes})


def _without_changeable(spec: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of `tune` that may change, because they keep the trials that there are.

    `extend` adds values to grids, and `transfer` is about variants that may be added later.
    """
    tune = spec.get("tune")
    if not isinstance(tune, dict):
        return spec
    return {**spec, "tune": {name: value for name, value in tune.items() if name not in ("extend", "transfer")}}


def write_plan(folder: Path, plan: Plan) -> None:
    """Write ablation.json and variants.json. Raises FolderError like `check_same_ablation`, or if writing fails."""
    check_same_ablation(folder, plan.spec)
    design = {
        "baseline": plan.baseline,
        "axes": plan.axes,
        "factorial": plan.factorial,
        "paired": plan.paired,
        "higher_is_better": plan.higher_is_better,
        "task_axes": list(plan.task_axes),
        "variants": [asdict(variant.as_variant()) for variant in plan.variants],
        "exclusions": [asdict(exclusion) for exclusion in plan.exclusions],
        "trials": trials_as_dicts(plan),
        "contest": None if plan.halving is None else asdict(plan.halving),
        "seeds_seen": list(plan.seeds_seen),
        "baseline_lengths": lengths_as_dicts(plan),
        "warnings": [warning.text for warning in plan.warnings],
        "warning_records": [asdict(warning) for warning in plan.warnings],
        "plugin_files": [asdict(file) for file in loaded_plugin_files()],
    }
    design = with_checksum(json.loads(json.dumps(design)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # ablation.json comes first: another runner that starts in between recognises the folder by it.
        for name, value in (("ablation.json", _spec_json(plan.spec)), ("variants.json", design)):
            if _stored(folder / name) != json.loads(json.dumps(value)):
                write_json(folder / name, value)
        keep_plugin_files(folder)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written: {error.strerror or error}; choose another --out") from None


def trials_as_dicts(plan: Plan) -> list[dict[str, Any]]:
    """Return the trials of the comparison as JSON. Trials of variants whose tuning failed have no folder."""
    planned = [{"variant": trial.variant, "seed": trial.seed, "folder": trial.name} for trial in plan.trials]
    failed = [
        {"variant": variant.name, "seed": seed, "folder": None, "reason": variant.tuned}
        for variant in plan.variants
        if variant.tuning_failed
        for seed in sorted(plan.spec.seeds)
    ]
    return planned + failed


def lengths_as_dicts(plan: Plan) -> list[dict[str, Any]]:
    """Return the baseline at other lengths as JSON."""
    return [
        {
            "multiple": length.multiple,
            "steps": length.n_steps,
            "trials": [{"variant": trial.variant, "seed": trial.seed, "folder": trial.name} for trial in length.trials],
        }
        for length in plan.baseline_lengths
    ]


def read_outcome(folder: str | Path) -> Outcome:
    """Read the outcome of an ablation, finished or not, from the files in its folder. Raises FolderError."""
    path = Path(folder)
    if not (path / "ablation.json").is_file() or not (path / "variants.json").is_file():
        raise FolderError(f"{path}: is not the folder of an ablation: it has no ablation.json and variants.json")
    spec, design = read_record(path / "ablation.json"), read_record(path / "variants.json")
    if "sha256" in design:  # older versions wrote none
        check_sum(design, path / "variants.json")
    for name, types in _SPEC_TYPES.items():
        if not isinstance(spec.get(name), types) or isinstance(spec.get(name), bool):
            raise FolderError(f"{path / 'ablation.json'}: $.{name}: has another form than expected. It was damaged")
    try:
        return _outcome(path, spec, design)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"has another form than expected ({type(error).__name__}: {error}). It was damaged or changed"
        raise FolderError(f"{path / 'variants.json'}: {reason}") from None


def _outcome(path: Path, spec: dict[str, Any], design: dict[str, Any]) -> Outcome:
    halving = design.get("contest")
    variants = [_variant(variant) for variant in design["variants"]]
    lengths = design.get("baseline_lengths", ())  # older versions wrote none
    planned = [*design["trials"], *(trial for length in lengths for trial in length["trials"])]
    trials = [_trial_outcome(path, trial, spec) for trial in planned]
    trials = with_same_text(trials, design["baseline"], spec["metric"], {v.name: v.reference for v in variants})
    n_compared = len(design["trials"])
    return Outcome(
        name=spec["name"],
        folder=path,
        baseline=design["baseline"],
        axes=design["axes"],
        factorial=design["factorial"],
        metric=spec["metric"],
        paired=design["paired"],
        margin=spec["margin"],
        level=level_of_look(spec["alpha"], len(spec.get("looks", ()))),
        power=spec["power"],
        variants=variants,
        trials=trials[:n_compared],
        exclusions=[Exclusion(**exclusion) for exclusion in design["exclusions"]],
        spec=spec,
        environment=_environment(path, design["trials"]),
        selection=None if halving is None else HalvingPlan(**halving).evaluate(path, spec["metric"]),
        warnings=_warnings(design),
        looks=spec.get("looks", ()),
        plugin_files=[PluginFile(**file) for file in design.get("plugin_files", ())],
        higher_is_better=design.get("higher_is_better", False),  # older versions refused such metrics
        task_axes=design.get("task_axes", ()),
        baseline_lengths=_lengths(lengths, trials[n_compared:]),
    )


def _lengths(lengths: Sequence[Mapping[str, Any]], trials: Sequence[TrialOutcome]) -> list[BaselineLength]:
    """Return the baseline at other lengths. `trials` are those of all lengths, in order."""
    remaining = iter(trials)
    return [
        BaselineLength(length["multiple"], length["steps"], [next(remaining) for _ in length["trials"]])
        for length in lengths
    ]


def _warnings(design: Mapping[str, Any]) -> list[ComparisonWarning]:
    if "warning_records" in design:
        return [ComparisonWarning(**record) for record in design["warning_records"]]
    # An older version stored texts without their full stop.
    return [ComparisonWarning("plan", f"{text.rstrip('.')}.") for text in design.get("warnings", ())]


def _variant(data: Mapping[str, Any]) -> Variant:
    tuning = data.get("tuning")
    metrics = [TaskMetric(**metric) for metric in data.get("task_metrics", ())]
    return Variant(**{**data, "tuning": None if tuning is None else Tuning.from_json(tuning), "task_metrics": metrics})


def _trial_outcome(path: Path, trial: Mapping[str, Any], spec: Mapping[str, Any]) -> TrialOutcome:
    if trial["folder"] is None:
        return TrialOutcome(trial["variant"], trial["seed"], "failed", trial["reason"])
    folder = TrialFolder(path / "trials" / trial["folder"], needs_sample=spec.get("samples", True))
    outcome = read_trial_outcome(folder, trial["variant"], trial["seed"])
    return with_scores(outcome, folder, spec.get("harness"))


def _environment(path: Path, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the environment of the first trial that has recorded one."""
    files = (path / "trials" / trial["folder"] / "environment.json" for trial in trials if trial["folder"])
    for file in files:
        with contextlib.suppress(FolderError):  # missing or damaged: another trial has recorded the same
            return read_record(file)
    return {}


def _spec_json(spec: AblationSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def _stored(file: Path) -> dict[str, Any] | None:
    """Return the contents of a file, or None if it is missing or damaged: it is written anew."""
    try:
        return read_record(file)
    except FolderError:
        return None
