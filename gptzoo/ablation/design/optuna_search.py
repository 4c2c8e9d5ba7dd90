"""A space that is too large to enumerate: Optuna's TPE sampler suggests variants by what was found of those before.

Optuna suggests and keeps nothing. What it suggested is in suggestions.json, what came of it in the folders of trials;
its study is made from both for each batch anew, with a seed of the batch's own. All of a batch is suggested before
anything is known of it, so the suggestions are the same however many workers there are, and whoever was killed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from gptzoo.ablation.design.axes import label_of
from gptzoo.errors import FolderError, InputError
from gptzoo.spec.ablation import AxisSpec
from gptzoo.utils.atomic import write_json

Suggestion = Mapping[str, Any]
"""By axis, the label of a choice, or the number from a range."""

N_AT_ONCE = 4
FILE = "suggestions.json"
_IDLE = 100  # suggestions in a row that were nothing new, after which a search is over: there is no more, or hardly
_DIGITS = 4  # significant, of a number from a range: its label is all of it


@dataclass(frozen=True)
class Search:
    """What was suggested so far, and what each suggestion is: a variant's name, or None where it is none."""

    wanted: int  # variants, beside the baseline
    baseline: str
    suggestions: Sequence[Suggestion]
    variants: Sequence[str | None]
    n_kept: int  # suggestions in the folder, those that the axes have no more among them

    @property
    def complete(self) -> bool:
        """Whether there are as many variants as were wanted, or no more to be found."""
        found = {name for name in self.variants if name is not None and name != self.baseline}
        new = [index for index, name in enumerate(self.variants) if name and name not in self.variants[:index]]
        idle = len(self.variants) - (new[-1] + 1 if new else 0)
        return len(found) >= self.wanted or idle >= _IDLE


def refuse_without_optuna() -> None:
    """Raises InputError where there is no Optuna."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("mode 'tpe' needs the package optuna: pip install 'gptzoo[optuna]'")


def read_suggestions(folder: Path) -> list[Suggestion]:
    """All that was ever suggested, in order. Raises FolderError for a file that is none."""
    file = folder / FILE
    if not file.is_file():
        return []
    try:
        kept: list[Suggestion] = [one["choices"] for one in json.loads(file.read_text(encoding="utf-8"))["suggestions"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{file}: cannot be read: {error}") from None
    return kept


def fitting(suggestions: Sequence[Suggestion], axes: Mapping[str, AxisSpec]) -> list[Suggestion]:
    """Those that are within the axes (still), as far as that is known without their choices."""
    return [
        one for one in suggestions if one.keys() == axes.keys() and all(_within(axes[name], one[name]) for name in one)
    ]


def _within(axis: AxisSpec, value: Any) -> bool:
    if axis.low is None or axis.high is None:
        return isinstance(value, str)  # whether it is a choice is known when the choices are
    return isinstance(value, int | float) and axis.low <= value <= axis.high


def points(suggestions: Sequence[Suggestion]) -> list[dict[str, str]]:
    """What each suggestion chooses on each axis, by label."""
    return [{name: label_of(value) for name, value in one.items()} for one in suggestions]


def with_choices(suggestions: Sequence[Suggestion], labels: Mapping[str, Sequence[str]]) -> list[Suggestion]:
    """Those whose choices are there (still)."""
    return [one for one in suggestions if all(label_of(value) in labels[name] for name, value in one.items())]


def listed(
    axes: Mapping[str, AxisSpec], suggestions: Sequence[Suggestion], baseline: Suggestion
) -> dict[str, AxisSpec]:
    """The axes with the values that were suggested in place of ranges; that of the baseline first."""
    found = {}
    for name, axis in axes.items():
        if axis.low is not None:
            values = [baseline[name], *(one[name] for one in suggestions)]
            axis = AxisSpec(choices=tuple({label_of(value): value for value in values}.values()), when=axis.when)
        found[name] = axis
    return found


def own_values(axes: Mapping[str, AxisSpec], base: Mapping[str, Any], wanted: Suggestion) -> dict[str, Any]:
    """Of each range the baseline's value: what is asked for, or what the resolved base has, or else the lowest."""
    found = {}
    for name, axis in axes.items():
        value: Any = base
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        found[name] = wanted.get(name, value if is_number else axis.low)
    return found


def extend(folder: Path, n_known: int, suggestions: Sequence[Suggestion]) -> None:
    """Keep more suggestions, unless another runner has kept some since `n_known` were."""
    with filelock.FileLock(folder / f"{FILE}.lock"):
        kept = read_suggestions(folder)
        if len(kept) == n_known:
            write_json(folder / FILE, {"suggestions": [{"choices": dict(one)} for one in (*kept, *suggestions)]})


def suggest(
    axes: Mapping[str, AxisSpec],
    labels: Mapping[str, Sequence[str]],
    told: Sequence[tuple[Suggestion, float | None]],
    *,
    seed: int,
    n: int,
) -> list[Suggestion]:
    """The next n suggestions. `labels` are the choices of each axis without a range; `told` has all suggestions before
    with the mean of each, lower is better, or None for one that was no variant or failed. Raises InputError."""
    refuse_without_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {name: _distribution(axis, labels[name]) for name, axis in axes.items()}
    own_seed = int.from_bytes(hashlib.sha256(f"{seed} {len(told)}".encode()).digest()[:4], "big")
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=own_seed))
    for suggestion, mean in told:
        state = optuna.trial.TrialState.PRUNED if mean is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(params=dict(suggestion), distributions=space, value=mean, state=state)
        )
    asked = [study.ask(space) for _ in range(n)]
    return [{name: _rounded(axis, trial.params[name]) for name, axis in axes.items()} for trial in asked]


def _distribution(axis: AxisSpec, labels: Sequence[str]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.low is None or axis.high is None:
        return CategoricalDistribution(tuple(labels))
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return IntDistribution(axis.low, axis.high, log=axis.log)
    return FloatDistribution(float(axis.low), float(axis.high), log=axis.log)


def _rounded(axis: AxisSpec, value: Any) -> Any:
    if axis.low is None or axis.high is None or isinstance(value, int):
        return value
    return min(max(float(f"{value:.{_DIGITS}g}"), axis.low), axis.high)
