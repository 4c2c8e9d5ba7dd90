"""Search in a space that is too large to enumerate: Optuna's TPE sampler suggests variants from earlier results.

Optuna only makes the suggestions and stores nothing. The suggestions are in suggestions.json, and their results in the
folders of the trials. For each batch the study is rebuilt from both, with a seed of its own. A batch is suggested
before any of its results are known, so the suggestions do not depend on the number of workers or on interruptions.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import filelock

from gptzoo.ablation.design.axes import label_of
from gptzoo.errors import FolderError, InputError
from gptzoo.spec.ablation_axes import AxisSpec
from gptzoo.utils.atomic import write_json

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Suggestion = Mapping[str, Any]
"""By axis, the label of a choice, or a number from a range."""

DEFAULT_BATCH_SIZE = 4
FILE_NAME = "suggestions.json"
MAX_IDLE_SUGGESTIONS = 100  # a search ends after this many suggestions in a row without a new variant
SIGNIFICANT_DIGITS = 4  # of numbers from a range, so that labels show them completely


@dataclass(frozen=True)
class Search:
    """The suggestions of a search so far, and the variant that each of them became."""

    n_wanted: int  # variants, without the baseline
    baseline: str
    suggestions: Sequence[Suggestion]
    variants: Sequence[str | None]  # name of the variant of each suggestion; None if it is not a valid spec
    n_stored: int  # suggestions in the folder, including those that the axes no longer allow

    @property
    def complete(self) -> bool:
        """True if there are as many variants as wanted, or if the search finds no new ones."""
        distinct = {name for name in self.variants if name is not None and name != self.baseline}
        first_seen = [index for index, name in enumerate(self.variants) if name and name not in self.variants[:index]]
        n_idle = len(self.variants) - (first_seen[-1] + 1 if first_seen else 0)
        return len(distinct) >= self.n_wanted or n_idle >= MAX_IDLE_SUGGESTIONS


def require_optuna() -> None:
    """Raise InputError if Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("mode 'tpe' needs the package optuna: pip install 'gptzoo[optuna]'")


def read_suggestions(folder: Path) -> list[Suggestion]:
    """Read all suggestions in a folder, in order. Raises FolderError if the file is invalid."""
    file = folder / FILE_NAME
    if not file.is_file():
        return []
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))["suggestions"]
        suggestions: list[Suggestion] = [dict(suggestion["choices"]) for suggestion in stored]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{file}: cannot be read: {error}") from None
    return suggestions


def append_suggestions(folder: Path, n_known: int, suggestions: Sequence[Suggestion]) -> None:
    """Store more suggestions, unless another runner has stored some since there were `n_known`."""
    with filelock.FileLock(folder / f"{FILE_NAME}.lock"):
        stored = read_suggestions(folder)
        if len(stored) == n_known:
            extended = [{"choices": dict(suggestion)} for suggestion in (*stored, *suggestions)]
            write_json(folder / FILE_NAME, {"suggestions": extended})


def within_axes(suggestions: Sequence[Suggestion], axes: Mapping[str, AxisSpec]) -> list[Suggestion]:
    """Return the suggestions that have these axes and are within their ranges. Choices are not checked."""
    return [
        suggestion
        for suggestion in suggestions
        if suggestion.keys() == axes.keys() and all(_is_within(axes[name], suggestion[name]) for name in suggestion)
    ]


def _is_within(axis: AxisSpec, value: object) -> bool:
    if axis.low is None or axis.high is None:
        return isinstance(value, str)
    return isinstance(value, int | float) and axis.low <= value <= axis.high


def with_known_choices(suggestions: Sequence[Suggestion], labels: Mapping[str, Sequence[str]]) -> list[Suggestion]:
    """Return the suggestions whose choices exist. `labels` has the labels of each axis."""
    return [
        suggestion
        for suggestion in suggestions
        if all(label_of(value) in labels[name] for name, value in suggestion.items())
    ]


def suggested_points(suggestions: Sequence[Suggestion]) -> list[dict[str, str]]:
    """Return the label that each suggestion has on each axis."""
    return [{name: label_of(value) for name, value in suggestion.items()} for suggestion in suggestions]


def ranges_as_choices(
    axes: Mapping[str, AxisSpec], suggestions: Sequence[Suggestion], baseline: Suggestion
) -> dict[str, AxisSpec]:
    """Return the axes with each range replaced by the values that were suggested, after that of the baseline."""
    replaced = {}
    for name, axis in axes.items():
        if axis.low is not None:
            values = [baseline[name], *(suggestion[name] for suggestion in suggestions)]
            axis = AxisSpec(choices=tuple({label_of(value): value for value in values}.values()), when=axis.when)
        replaced[name] = axis
    return replaced


def baseline_values(axes: Mapping[str, AxisSpec], base: Mapping[str, Any], wanted: Suggestion) -> dict[str, Any]:
    """Return the baseline's value on each axis.

    It is that of `wanted`, else the number in the resolved base spec, else the lower end of the range.
    """
    values = {}
    for name, axis in axes.items():
        value: object = base
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        values[name] = wanted.get(name, value if is_number else axis.low)
    return values


def suggest(
    axes: Mapping[str, AxisSpec],
    labels: Mapping[str, Sequence[str]],
    results: Sequence[tuple[Suggestion, float | None]],
    *,
    seed: int,
    n: int,
    higher_is_better: bool = False,
) -> list[Suggestion]:
    """Return the next n suggestions.

    `labels` are the choices of each axis without a range. `results` has all earlier suggestions, each with its mean
    metric, or None if it failed or was not a valid spec. Raises InputError without Optuna.
    """
    require_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _distribution(axis, labels[name]) for name, axis in axes.items()}
    batch_seed = int.from_bytes(hashlib.sha256(f"{seed} {len(results)}".encode()).digest()[:4], "big")
    direction: Literal["maximize", "minimize"] = "maximize" if higher_is_better else "minimize"
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=batch_seed))
    for suggestion, mean in results:
        state = optuna.trial.TrialState.PRUNED if mean is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(params=dict(suggestion), distributions=space, value=mean, state=state)
        )
    trials = [study.ask(space) for _ in range(n)]
    return [{name: _rounded(axis, trial.params[name]) for name, axis in axes.items()} for trial in trials]


def _distribution(axis: AxisSpec, labels: Sequence[str]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.low is None or axis.high is None:
        return CategoricalDistribution(tuple(labels))
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return IntDistribution(axis.low, axis.high, log=axis.log)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def _rounded(axis: AxisSpec, value: str | float) -> str | float:
    if axis.low is None or axis.high is None or not isinstance(value, float):
        return value
    return min(max(float(f"{value:.{SIGNIFICANT_DIGITS}g}"), axis.low), axis.high)
