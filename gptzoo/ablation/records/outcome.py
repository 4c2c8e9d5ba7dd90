"""What an ablation has found so far: its variants, trials and metrics, as its statistics and report read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.records.trial import TrialOutcome


@dataclass(frozen=True)
class Variant:
    """One point of the design. All its trials are the same run but for the seed."""

    name: str  # of its folders and in tables: "sdpa-rope"
    choices: Mapping[str, str]  # label of the choice on each axis, by the axis's path: {"model.positional": "rope"}
    n_parameters: int
    flops_per_token: float | None  # of a training step; None where it cannot be told
    cache_bytes: int | None  # of a full context of one row; None where there is none
    differences: Sequence[str] = ()  # from the baseline, in words; none for the baseline
    residue: str = ""  # what matching of parameters or FLOPs could not make equal, in words
    spec: Mapping[str, Any] = field(default_factory=dict)  # the resolved run, without its seed
    tuned: str = ""  # which value a grid chose for it, in words; "" where nothing is tuned
    memory_bytes: int | None = None  # of a training step, as `gptzoo build` estimates it; None where it cannot be told


@dataclass(frozen=True)
class Exclusion:
    """A point of the design that is no valid spec, or that a condition leaves out."""

    choices: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class Outcome:
    """An ablation as its folder has it, running or done."""

    name: str
    folder: Path
    baseline: str  # the variant that all others are compared with
    axes: Mapping[str, Sequence[str]]  # labels of the choices by path; one with a single choice is no axis
    factorial: bool  # all combinations of all axes, apart from exclusions
    metric: str  # what is compared, lower is better: "val/loss"
    paired: bool  # trials of one seed share data order and initial values
    margin: float  # differences inside it are the same
    alpha: float  # how often one may call a difference where there is none, over all comparisons together
    power: float  # how often one wants to find a difference of the detectable size
    variants: Sequence[Variant]
    trials: Sequence[TrialOutcome]
    exclusions: Sequence[Exclusion] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)  # ablation.json
    environment: Mapping[str, Any] = field(default_factory=dict)  # of one of its runs
    selection: Selection | None = None  # what successive halving has said so far

    @property
    def compared(self) -> list[str]:
        """The variants that are compared with the baseline: those that no selection has stopped, or may yet."""
        chosen = None if self.selection is None else self.selection.finalists or ()
        others = [variant.name for variant in self.variants if variant.name != self.baseline]
        return [name for name in others if chosen is None or name in chosen]

    def trials_of(self, variant: str) -> list[TrialOutcome]:
        """In the order of seeds."""
        return sorted((t for t in self.trials if t.variant == variant), key=lambda trial: trial.seed)

    def endpoints(self, variant: str, metric: str | None = None) -> dict[int, float]:
        """The last value of the metric by seed, of the trials that are done."""
        found = {t.seed: t.last(metric or self.metric) for t in self.trials_of(variant)}
        return {seed: value for seed, value in found.items() if value is not None}

    def failures(self, variant: str) -> list[TrialOutcome]:
        """Its trials that have come to an end without an endpoint, in the order of seeds."""
        return [
            trial
            for trial in self.trials_of(variant)
            if trial.state == "failed" or (trial.state == "done" and trial.last(self.metric) is None)
        ]
