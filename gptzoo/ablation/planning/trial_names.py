"""The names of trial folders."""

from __future__ import annotations

import re
from pathlib import Path

from gptzoo.ablation.design.enumeration import spec_digest
from gptzoo.ablation.planning.plan_types import PlannedTrial
from gptzoo.spec.run import RunSpec


class TrialNames:
    """Folder names of trials: `<variant>-seed<n>-<hash of the spec>`.

    A folder that exists is found by its hash, because the variant may have had another name when it was created.
    """

    def __init__(self, folder: Path):
        trials = folder / "trials"
        names = sorted(entry.name for entry in trials.iterdir()) if trials.is_dir() else []
        self._existing = {match[1]: name for name in names if (match := re.search(r"-seed\d+-([0-9a-f]{8})$", name))}

    def planned_trial(self, variant: str, seed: int, spec: RunSpec) -> PlannedTrial:
        """Return the trial of a variant with a seed, with the name of its folder."""
        digest = spec_digest(spec)[:8]
        return PlannedTrial(self._existing.get(digest) or f"{variant}-seed{seed}-{digest}", variant, seed, spec)
