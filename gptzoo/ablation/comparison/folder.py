"""The folder of a comparison: its default, and the check that a folder compares the same runs.

Two comparisons are the same if they train the same runs, whatever their files and names are. Both the default folder
and the check of a given one follow this rule.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from gptzoo.ablation.comparison.pair import AXIS, different_fields
from gptzoo.ablation.design.axes import apply_choices, read_axes, slug_of
from gptzoo.ablation.design.enumeration import spec_digest
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError, InputError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.files import load_ablation_spec, load_run_spec
from gptzoo.spec.run import RunSpec
from gptzoo.utils.json_diff import Change, differences

COMPARISONS = Path("comparisons")
_MAX_NAME_LENGTH = 40  # of each run, in the name of the folder


def default_folder(spec: AblationSpec) -> Path:
    """Return the folder in `comparisons` that has the results of this comparison, or else a new one.

    Its name depends on the runs. After an upgrade the same runs may give another name, for example because of a new
    option, so folders with the same names of runs are searched for the same runs.
    """
    names = "-".join(slug_of(label)[:_MAX_NAME_LENGTH] for label in _labels(spec))
    folder = COMPARISONS / f"{names}-{_digest(spec)}"
    for existing in [folder, *sorted(COMPARISONS.glob(f"{names}-*"))]:
        with contextlib.suppress(InputError):  # a damaged folder, or that of another ablation, is not the same
            stored = read_stored(existing)
            if stored is not None and not any(changed_runs(stored, spec)):
                return existing
    return folder


def read_stored(folder: Path) -> AblationSpec | None:
    """Return the ablation of an existing folder, or None. Raises FolderError if it is no comparison of two runs."""
    if not (folder / "ablation.json").is_file():
        return None
    stored = load_ablation_spec(read_record(folder / "ablation.json"))
    if [*stored.axes] != [AXIS] or len(_labels(stored)) != 2:
        raise FolderError(
            f"{folder}: has an ablation that `gptzoo compare` did not write. Choose another --out, or run "
            "`gptzoo ablate` again to continue it"
        )
    return stored


def check_same_runs(folder: Path, stored: AblationSpec, spec: AblationSpec) -> None:
    """Raise FolderError if the comparison of a folder has other runs than `spec`."""
    for change in changed_runs(stored, spec):
        raise FolderError(
            f"{folder}: compares other runs: {change.name} was {json.dumps(change.a)}, is {json.dumps(change.b)}. "
            "Choose another --out. Without --out, each pair of runs has a folder of its own"
        )


def changed_runs(before: AblationSpec, now: AblationSpec) -> Iterator[Change]:
    """Yield the differences between the runs that two comparisons train, such as "$.optimizer.lr of A"."""
    for side, run_before, run_now in zip("AB", _runs(before), _runs(now), strict=True):
        for change in different_fields(run_before, run_now):
            yield Change(f"{change.name} of {side}", change.a, change.b)
    yield from differences(_trained(before), _trained(now))


def _digest(spec: AblationSpec) -> str:
    runs = [spec_digest(run.model_copy(update={"seed": 0})) for run in _runs(spec)]
    return hashlib.sha256(json.dumps([*runs, _trained(spec)], sort_keys=True).encode()).hexdigest()[:8]


def _trained(spec: AblationSpec) -> dict[str, object]:
    """Return the settings of a comparison that change its trials."""
    written = spec.model_dump(mode="json", include={"budget", "held_out"})
    return {name: value for name, value in written.items() if value is not None}


def _runs(spec: AblationSpec) -> list[RunSpec]:
    """Return run A and run B of a comparison."""
    (axis,) = read_axes(spec.axes, RunSpec, spec.base)
    return [load_run_spec(apply_choices(RunSpec, spec.base, [choice])) for choice in axis.choices]


def _labels(spec: AblationSpec) -> list[str]:
    """Return the names of both runs."""
    choices = spec.axes[AXIS].choices
    return list(choices) if isinstance(choices, dict) else []
