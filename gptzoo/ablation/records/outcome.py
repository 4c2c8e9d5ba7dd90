"""The outcome of an ablation: its variants, trials and metrics, as the statistics and the report read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.records.tasks import TaskMetric
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.records.tuning import Tuning
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.checkpoint.plugin_files import PluginFile
from gptzoo.utils.notebook.view import NotebookView


@dataclass(frozen=True)
class Variant:
    """One point of the design. Its trials are the same run with different seeds."""

    name: str  # in tables and in the names of folders: "sdpa-rope"
    choices: Mapping[str, str]  # label of the choice on each axis, by path: {"model.positional": "rope"}
    n_parameters: int
    flops_per_token: float | None  # of a training step; None if unknown
    cache_bytes: int | None  # KV cache of one sequence of full context length; None without a cache
    differences: Sequence[str] = ()  # readable differences from the baseline; () for the baseline
    residue: str = ""  # the width that size matching chose, and the difference in size that is left
    spec: Mapping[str, Any] = field(default_factory=dict)  # the resolved run spec without its seed
    tuned: str = ""  # the value that the learning-rate grid chose, or its state; "" without a grid
    memory_bytes: int | None = None  # estimated memory of a training step; None if unknown
    tuning: Tuning | None = None  # the grid and its results; None without a grid
    recommended: Sequence[str] = ()  # settings that the axes took along, because its components recommend them
    left_out: Sequence[str] = ()  # settings that its components recommend, and that it has not
    exports_as: str = ""  # family of transformers for `gptzoo export-hf`, or what the closest one lacks; "" if unknown
    steps: int | None = None  # optimizer steps of one trial; None if an older version wrote the folder
    tokens: int | None = None  # training tokens of one trial; None as well
    reference: str = ""  # the variant that it is compared with, if that is not the baseline of the ablation
    task_metrics: Sequence[TaskMetric] = ()  # of its synthetic task; () for a corpus of documents

    @property
    def flops(self) -> float | None:
        """Training FLOPs of one trial, or None if unknown."""
        return None if self.flops_per_token is None or self.tokens is None else self.flops_per_token * self.tokens


@dataclass(frozen=True)
class BaselineLength:
    """The baseline trained for another number of steps, as complete runs with their own learning-rate decay."""

    multiple: float  # of the baseline's own number of steps, as the ablation asks for it
    steps: int  # optimizer steps of one trial
    trials: Sequence[TrialOutcome]  # their variant is the name of the baseline and the multiple: "rope-x0.5"


@dataclass(frozen=True)
class Exclusion:
    """A point of the design that is not a valid spec or that the ablation excludes."""

    choices: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class Outcome(NotebookView):
    """The contents of an ablation's folder, whether the ablation runs or is done."""

    name: str
    folder: Path
    baseline: str  # name of the variant with which all others are compared
    axes: Mapping[str, Sequence[str]]  # labels of the choices, by path; a path with a single choice is not an axis
    factorial: bool  # True if the variants are all combinations of choices except the exclusions
    metric: str  # the metric that is compared, such as "val/loss"
    paired: bool  # True if trials with the same seed share data order and initial values
    margin: float  # differences smaller than this count as the same
    level: float  # probability of calling any variant different if none is, over all comparisons of this look
    power: float  # probability of detecting a difference of the smallest detectable size
    variants: Sequence[Variant]
    trials: Sequence[TrialOutcome]
    exclusions: Sequence[Exclusion] = ()
    spec: Mapping[str, Any] = field(default_factory=dict)  # the contents of ablation.json
    environment: Mapping[str, Any] = field(default_factory=dict)  # software and hardware of one of the runs
    selection: Selection | None = None  # the rungs of successive halving so far
    warnings: Sequence[ComparisonWarning] = ()  # of the plan, such as a warmup as long as the runs
    higher_is_better: bool = False  # direction of the metric
    task_axes: Sequence[str] = ()  # axes over synthetic tasks; variants are compared within a task
    looks: Sequence[int] = ()  # numbers of seeds at which results are looked at, the current one last; () for one look
    plugin_files: Sequence[PluginFile] = ()  # those given with --plugin
    baseline_lengths: Sequence[BaselineLength] = ()  # the baseline at other lengths, which is not ranked

    @property
    def all_trials(self) -> list[TrialOutcome]:
        """The trials of the variants, and then those of the baseline at other lengths."""
        return [*self.trials, *(trial for length in self.baseline_lengths for trial in length.trials)]

    @property
    def compared(self) -> list[str]:
        """The variants that are compared with a baseline. With successive halving, these are the finalists."""
        finalists = None if self.selection is None else self.selection.finalists or ()
        others = [v.name for v in self.variants if v.name not in (self.baseline, v.reference)]
        return [name for name in others if finalists is None or name in finalists]

    @property
    def baselines(self) -> list[str]:
        """The baseline and, with axes over tasks, the variants that are the baseline of another task."""
        return list(dict.fromkeys([self.baseline, *(v.name for v in self.variants if v.name == v.reference)]))

    @property
    def compares_shares(self) -> bool:
        """True if the metric is a share of right answers, within 0 to 1."""
        return any(of.metric == self.metric for variant in self.variants for of in variant.task_metrics)

    def reference_of(self, variant: str) -> str:
        """Return the variant that a variant is compared with: the baseline, or that of its task."""
        return next((v.reference for v in self.variants if v.name == variant), "") or self.baseline

    def trials_of(self, variant: str) -> list[TrialOutcome]:
        """Return the trials of a variant in the order of their seeds."""
        return sorted((t for t in self.trials if t.variant == variant), key=lambda trial: trial.seed)

    def endpoints(self, variant: str, metric: str | None = None) -> dict[int, float]:
        """Return the last value of the metric by seed, for the trials that are done and have a value."""
        values = {t.seed: t.last(metric or self.metric) for t in self.trials_of(variant)}
        return {seed: value for seed, value in values.items() if value is not None}

    def failures(self, variant: str) -> list[TrialOutcome]:
        """Return the trials of a variant that ended without an endpoint, in the order of their seeds."""
        return [
            trial
            for trial in self.trials_of(variant)
            if trial.state == "failed" or (trial.state == "done" and trial.last(self.metric) is None)
        ]
