"""The numbers of seeds whose results were seen before more seeds were added to an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import format_count
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError
from gptzoo.spec.ablation import AblationSpec


def seeds_seen(folder: Path, n_seeds: int) -> list[int]:
    """Return the numbers of seeds, below `n_seeds`, that an ablation had when at least one of its trials had ended."""
    try:
        design = read_record(folder / "variants.json")
        trials, seen = design["trials"], {*design.get("seeds_seen", ())}
        n_before = len({trial["seed"] for trial in trials})
        names = [trial["folder"] for trial in trials if trial["folder"]]
    except (FolderError, KeyError, TypeError):  # there is no plan yet, or it is damaged and will be written anew
        return []
    if n_before < n_seeds and any(TrialFolder(folder / "trials" / name).state == "done" for name in names):
        seen.add(n_before)
    return sorted(n for n in seen if n < n_seeds)


def added_seeds(spec: AblationSpec, seen: Sequence[int]) -> Iterator[ComparisonWarning]:
    """Yield a warning if seeds were added after results had been seen, and `looks` does not account for it."""
    forgotten = [n for n in seen if n not in spec.looks]
    if forgotten:
        looks = [*sorted({*seen, *spec.looks} - {len(spec.seeds)}), len(spec.seeds)]
        yield ComparisonWarning(
            "seeds added",
            f"Seeds were added after results of {format_count(forgotten[-1], 'seed')} had been seen. If they were "
            f"added because of the results, equal variants are called different with a probability above "
            f"{spec.alpha:g}. "
            f'Set "looks": {looks} in the ablation: each look then has a stricter test.',
        )
