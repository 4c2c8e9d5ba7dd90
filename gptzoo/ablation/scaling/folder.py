"""The files of a ladder in its folder, which is otherwise that of an ablation.

ladder.json         the spec, with the base inline
ladder-runs.json    each variant at each size, as the rule makes it
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gptzoo.ablation.planning.folder import check_same_ablation, read_outcome
from gptzoo.ablation.scaling.ladder_spec import LadderSpec
from gptzoo.ablation.scaling.plan_ladder import AXIS, LadderPlan
from gptzoo.ablation.scaling.result import LadderRun
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError
from gptzoo.utils.atomic import write_json

_SPEC_FILE, _RUNS_FILE = "ladder.json", "ladder-runs.json"


def is_ladder(folder: Path) -> bool:
    """Return True if a folder is that of a ladder."""
    return (folder / _SPEC_FILE).is_file()


def write_ladder(folder: Path, plan: LadderPlan) -> None:
    """Write the spec and the runs of a ladder, whose ablation is written already. Raises FolderError."""
    runs = {"runs": [run.model_dump(mode="json") for run in plan.runs]}
    try:
        for name, value in ((_RUNS_FILE, runs), (_SPEC_FILE, plan.spec.model_dump(mode="json"))):
            write_json(folder / name, json.loads(json.dumps(value)))
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written: {error.strerror or error}; choose another --out") from None


def read_ladder_files(folder: Path) -> tuple[dict[str, Any], list[LadderRun]]:
    """Return the spec of a ladder, as JSON, and its runs. Raises FolderError."""
    spec, runs = read_record(folder / _SPEC_FILE), read_record(folder / _RUNS_FILE)
    try:
        LadderSpec.model_validate(spec)
        return spec, [LadderRun.model_validate(run) for run in runs["runs"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise FolderError(f"{folder}: the files of its ladder have another form than expected ({error})") from None


def check_same_ladder(folder: Path, plan: LadderPlan) -> None:
    """Raise FolderError if the folder has other contents, or started runs of the same name that this ladder changes."""
    check_same_ablation(folder, plan.ablation)
    if not (folder / "variants.json").is_file():
        return
    outcome = read_outcome(folder)
    choices = outcome.spec["axes"].get(AXIS, {}).get("choices")
    if not isinstance(choices, dict) or len(outcome.spec["axes"]) != 1:
        raise FolderError(f"{folder}: contains an ablation that is no ladder; choose another --out")
    started = {trial.variant for trial in outcome.trials if trial.state != "waiting"}
    labels = {variant.choices[AXIS] for variant in outcome.variants if variant.name in started}
    for run in plan.runs:
        if run.label in labels and choices[run.label] != run.fields:
            raise FolderError(
                f"{folder}: has results of {run.label} under another rule or with other fields; choose another --out"
            )
