"""Runs of the ablations that test claims, and their results: the measures of every trial that the statements use."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import gptzoo
from benchmarks.claims.catalog import FILE, ROOT, SPECS, Statement, digest, spec_files
from benchmarks.claims.measures import EXTRA
from gptzoo.ablation.records.outcome import Outcome

RESULTS = ROOT / "benchmarks" / "results" / "claims"


def run(ablation: str, statements: Sequence[Statement], out: Path, *, retry_failed: bool = False) -> Path:
    """Run an ablation as far as it is not done, and return the path of its result.

    Interrupted runs continue. Raises SystemExit if the claim is not committed, because then nobody can know whether it
    was made before the results.
    """
    commit = registered_commit(ablation)
    outcome = gptzoo.ablate(SPECS / f"{ablation}.json", out, retry_failed=retry_failed)
    result = {
        "ablation": ablation,
        "registered": digest(ablation, statements),
        "commit": commit,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "steps": next(variant.steps for variant in outcome.variants),
        "variants": [describe(outcome, variant.name) for variant in outcome.variants],
        "warnings": [warning.text for warning in outcome.warnings],
        "failures": [
            f"{variant.name}, seed {trial.seed}: {trial.reason or 'no value'}"
            for variant in outcome.variants
            for trial in outcome.failures(variant.name)
        ],
        "measures": measure_all(outcome, statements),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{ablation}.json"
    file.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def registered_commit(ablation: str) -> str:
    """Return the last commit that changed the claims or the specs. Raises SystemExit if they have changes since."""
    files = [str(file) for file in (FILE, *spec_files(ablation))]
    if changed := git("status", "--porcelain", "--", *files):
        raise SystemExit(f"commit the claim before you run it; these files have changes:\n{changed}")
    return git("log", "-1", "--format=%h", "--abbrev=12", "--", *files)


def git(*arguments: str) -> str:
    """Return the output of a git command in the repository."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"claims are run in a clone of the repository: git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def describe(outcome: Outcome, name: str) -> dict[str, Any]:
    """Return the size of a variant and the settings that were chosen for it."""
    (variant,) = (variant for variant in outcome.variants if variant.name == name)
    return {
        "name": name,
        "parameters": variant.n_parameters,
        "recommended": list(variant.recommended),
        "tuned": "" if variant.tuning is None else variant.tuning.description,
    }


def measure_all(outcome: Outcome, statements: Sequence[Statement]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the measures that statements use, by measure, variant and seed. A failed trial has no value."""
    design = json.loads((outcome.folder / "variants.json").read_text(encoding="utf-8"))
    folders = {(trial["variant"], trial["seed"]): trial["folder"] for trial in design["trials"]}
    measures: dict[str, dict[str, dict[str, float]]] = {}
    for quantity in dict.fromkeys(quantity for statement in statements for quantity in statement.quantities):
        values = {}
        for trial in outcome.trials_of(quantity.variant):
            if trial.state != "done":
                continue
            if quantity.measure in EXTRA:
                folder = outcome.folder / "trials" / folders[quantity.variant, trial.seed]
                value: float | None = EXTRA[quantity.measure](folder)
            else:
                value = trial.last(quantity.measure)
            if value is not None:
                values[str(trial.seed)] = value
        measures.setdefault(quantity.measure, {})[quantity.variant] = values
    return measures
