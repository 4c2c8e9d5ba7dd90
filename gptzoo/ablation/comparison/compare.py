"""The entry point of a comparison: from two run specs to one verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo.ablation.ablate import ProgressCallback, ablate
from gptzoo.ablation.comparison.pair import Pair, RunSource, read_pair
from gptzoo.ablation.comparison.read_result import result_of
from gptzoo.ablation.comparison.result import ComparisonResult
from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.checkpoint.records import read_record
from gptzoo.component import Config
from gptzoo.errors import FolderError, InputError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.files import load_ablation_spec
from gptzoo.utils.json_diff import differences

DEFAULT_SEEDS = 5


def compare(
    a: RunSource,
    b: RunSource | None = None,
    *,
    overrides: Iterable[str] = (),
    seeds: int | None = None,
    budget: Mapping[str, float] | None = None,
    metric: str | None = None,
    margin: float | None = None,
    held_out: Config | Mapping[str, Any] | str | None = None,
    baseline_lengths: Sequence[float] | None = None,
    executor: Config | Mapping[str, Any] | str | None = None,
    out: str | Path | None = None,
    retry_failed: bool = False,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_progress: ProgressCallback = lambda trials, runner, states: None,
) -> ComparisonResult:
    """Train run A and run B with several seeds each and return the verdict on B against A.

    a, b: run specs, as paths, run folders, dicts or specs. `overrides` such as "model.norm=post_ln" change B; without
        B, it is a changed copy of A.
    seeds: number of seeds of each run. Default: 5, or that of the folder if it has results. A larger number than that
        of the folder adds seeds, and counts as another look at the results: `docs/compare.md`.
    budget: training budget of each run, such as {"tokens": 5000000}. Default: the length of each spec.
    metric: metric to compare. Default: "val/loss", or "val/bits_per_byte" if the tokenizers differ.
    margin: differences smaller than this are the same. Default: 0.001.
    held_out: corpus whose validation split is the held-out text of both. Default: that of their own corpora.
    baseline_lengths: lengths of additional runs of A, as multiples of its own, such as (0.5, 2). The result then says
        how many steps, tokens, FLOPs and seconds A needs to reach the loss of B. Default: those of the folder, or none.
    out: folder of the comparison. Default: a folder in `comparisons` whose name depends on both specs. Finished trials
        in it are not run again.

    Raises InputError for invalid input, and Interrupted after a signal, when the running trials have saved a
    checkpoint.
    """
    pair = read_pair(a, b, overrides)
    fixed: dict[str, Any] = {"budget": budget, "held_out": _json(held_out)}
    folder = Path(out) if out is not None else pair.default_folder(fixed)
    stored = _stored_spec(folder)
    looks = _looks(folder, stored, seeds)
    settings = {
        **{name: value for name, value in fixed.items() if value is not None},
        **_settings_decided_before(folder, stored, pair, {"metric": metric, "margin": margin}),
        "baseline_lengths": list(baseline_lengths or (stored or {}).get("baseline_lengths", ())),
        "looks": looks,
        "seeds": looks[-1],
        **({} if executor is None else {"executor": _json(executor)}),
    }
    spec = load_ablation_spec(pair.ablation(settings))
    _check_same_runs(folder, stored, spec)
    outcome = ablate(spec, folder, retry_failed=retry_failed, on_plan=on_plan, on_progress=on_progress)
    return result_of(outcome)


def _stored_spec(folder: Path) -> dict[str, Any] | None:
    """Return the ablation of an existing folder, or None."""
    return read_record(folder / "ablation.json") if (folder / "ablation.json").is_file() else None


def _looks(folder: Path, stored: Mapping[str, Any] | None, seeds: int | None) -> list[int]:
    """Return the numbers of seeds at all looks, the current one last. Raises InputError for fewer seeds than before."""
    if seeds is not None and seeds < 1:
        raise InputError(f"{seeds} seeds: give at least 1")
    if stored is None:
        return [seeds or DEFAULT_SEEDS]
    looks = list(stored.get("looks") or [len(stored["seeds"])])
    if not _has_results(folder):
        return [seeds or looks[-1]]
    if seeds is not None and seeds < looks[-1]:
        raise InputError(
            f"{folder}: has {looks[-1]} seeds of each run, so {seeds} seeds would leave out results that were seen. "
            f"Leave out --seeds, or give at least {looks[-1]}"
        )
    return looks if seeds in (None, looks[-1]) else [*looks, seeds or 0]


def _has_results(folder: Path) -> bool:
    if not (folder / "variants.json").is_file():
        return False
    return any(trial.state in ("done", "failed") for trial in read_outcome(folder).trials)


def _settings_decided_before(
    folder: Path, stored: Mapping[str, Any] | None, pair: Pair, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return metric and margin: those of the folder, or else the given ones, or else the defaults."""
    if stored is not None:
        for name, value in given.items():
            if value is not None and value != stored.get(name):
                raise InputError(
                    f"{folder}: its {name} is {stored.get(name)}, which was decided before its results were seen. "
                    f"Leave out --{name}, or choose another --out"
                )
        return {name: stored[name] for name in given if name in stored}
    tokenizers = {spec.tokenizer.model_dump_json() for spec in pair.specs}
    settings = {name: value for name, value in given.items() if value is not None}
    return settings if len(tokenizers) == 1 else {"metric": "val/bits_per_byte", **settings}


def _check_same_runs(folder: Path, stored: Mapping[str, Any] | None, spec: AblationSpec) -> None:
    """Raise FolderError if the folder has the results of other runs."""
    if stored is None:
        return
    now = spec.model_dump(mode="json")
    changes = [c for name in ("base", "axes") for c in differences(stored.get(name), now[name], f"$.{name}")]
    if changes:
        raise FolderError(
            f"{folder}: compares other runs: {changes[0].name} is another one than in its ablation.json. Choose "
            "another --out, or leave it out: the default depends on both specs"
        )


def _json(value: Config | Mapping[str, Any] | str | None) -> object:
    return value.model_dump(mode="json") if isinstance(value, Config) else value
