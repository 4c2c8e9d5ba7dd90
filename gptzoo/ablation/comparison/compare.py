"""The entry point of a comparison: from two run specs to one verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptzoo.ablation.ablate import ProgressCallback, ablate
from gptzoo.ablation.comparison.folder import check_same_runs, default_folder, read_stored
from gptzoo.ablation.comparison.pair import Pair, RunSource, read_pair
from gptzoo.ablation.comparison.read_result import result_of
from gptzoo.ablation.comparison.result import ComparisonResult
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.planning.seeds_seen import results_were_seen
from gptzoo.ablation.wording import format_count
from gptzoo.component import Config
from gptzoo.errors import InputError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.files import load_ablation_spec

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
    out: folder of the comparison. Default: a folder in `comparisons` whose name depends on both runs. Finished trials
        in it are not run again.

    Raises InputError for invalid input, and Interrupted after a signal, when the running trials have saved a
    checkpoint.
    """
    pair = read_pair(a, b, overrides)
    fixed = {name: _json(value) for name, value in (("budget", budget), ("held_out", held_out)) if value is not None}
    asked = load_ablation_spec(pair.ablation(fixed))
    folder = default_folder(asked) if out is None else Path(out)
    stored = read_stored(folder)
    if stored is not None:
        check_same_runs(folder, stored, asked)
    looks = _looks(folder, stored, seeds)
    if baseline_lengths is None:
        baseline_lengths = () if stored is None else stored.baseline_lengths
    settings = {
        **fixed,
        **_settings_decided_before(folder, stored, pair, {"metric": metric, "margin": margin}),
        "baseline_lengths": list(baseline_lengths),
        "looks": looks,
        "seeds": looks[-1],
        **({} if executor is None else {"executor": _json(executor)}),
    }
    spec = load_ablation_spec({**pair.ablation(settings), **_design(stored)})
    outcome = ablate(spec, folder, retry_failed=retry_failed, on_plan=on_plan, on_progress=on_progress)
    return result_of(outcome)


def _design(stored: AblationSpec | None) -> dict[str, Any]:
    """Return the names and runs of an existing folder as they were written, so that its results stay the same."""
    return {} if stored is None else stored.model_dump(mode="json", include={"name", "base", "axes", "baseline"})


def _looks(folder: Path, stored: AblationSpec | None, seeds: int | None) -> list[int]:
    """Return the numbers of seeds at all looks, the current one last. Raises InputError for fewer seeds than before."""
    if seeds is not None and seeds < 1:
        raise InputError(f"{format_count(seeds, 'seed')}: give at least 1")
    if stored is None:
        return [seeds or DEFAULT_SEEDS]
    looks = list(stored.looks or [len(stored.seeds)])
    if not results_were_seen(folder):
        return [seeds or looks[-1]]
    if seeds is not None and seeds < looks[-1]:
        raise InputError(
            f"{folder}: has {format_count(looks[-1], 'seed')} of each run, so {format_count(seeds, 'seed')} would "
            f"leave out results that were seen. Leave out --seeds, or give at least {looks[-1]}"
        )
    return looks if seeds in (None, looks[-1]) else [*looks, seeds or 0]


def _settings_decided_before(
    folder: Path, stored: AblationSpec | None, pair: Pair, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return metric and margin: those of the folder, or else the given ones, or else the defaults."""
    if stored is not None:
        decided = {name: getattr(stored, name) for name in given}
        for name, value in given.items():
            if value not in (None, decided[name]):
                raise InputError(
                    f"{folder}: its {name} is {decided[name]}, which was decided before its results were seen. "
                    f"Leave out --{name}, or choose another --out"
                )
        return decided
    tokenizers = {spec.tokenizer.model_dump_json() for spec in pair.specs}
    settings = {name: value for name, value in given.items() if value is not None}
    return settings if len(tokenizers) == 1 else {"metric": "val/bits_per_byte", **settings}


def _json(value: Config | Mapping[str, Any] | str | None) -> object:
    return value.model_dump(mode="json") if isinstance(value, Config) else value
