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


def results_were_seen(folder: Path) -> bool:
    """Return True if any trial that an ablation compares has a result.

    A trial that failed has none: it decides no comparison. Raises FolderError if the plan in the folder is damaged.
    """
    file = folder / "variants.json"
    if not file.is_file():
        return False
    try:
        names = [trial["folder"] for trial in read_record(file)["trials"]]
        states = [TrialFolder(folder / "trials" / name).state for name in names if name]
    except (KeyError, TypeError):
        raise FolderError(f"{file}: has another form than expected. It was damaged or changed") from None
    return "done" in states


def seeds_seen(folder: Path, n_seeds: int) -> list[int]:
    """Return the numbers of seeds, below `n_seeds`, that an ablation had when one of its trials had a result."""
    try:
        design = read_record(folder / "variants.json")
        n_before, seen = len({trial["seed"] for trial in design["trials"]}), {*design.get("seeds_seen", ())}
        if n_before < n_seeds and results_were_seen(folder):
            seen.add(n_before)
    except (FolderError, KeyError, TypeError):  # there is no plan yet, or it is damaged and will be written anew
        return []
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
