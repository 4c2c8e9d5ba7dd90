"""The plan of an ablation as data: its variants with their costs, and its trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.design.costs import Costs, tokens_per_step
from gptzoo.ablation.design.optuna_search import Search
from gptzoo.ablation.records.outcome import Exclusion, Variant
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.records.tasks import TaskMetric
from gptzoo.ablation.records.tuning import Tuning
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.selection.halving import rung_sizes
from gptzoo.ablation.selection.halving_plan import HalvingPlan
from gptzoo.ablation.selection.learning_rate_grid import MAX_ADDED
from gptzoo.interop.exporting.summary import exports_as
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class PlannedTrial:
    """A variant with a seed."""

    name: str  # of the trial's folder; ends in a hash of the spec
    variant: str
    seed: int
    spec: RunSpec
    pause_at: int | None = None  # the step at which the trial pauses, in a rung
    rung: int | None = None  # the number of that rung


@dataclass(frozen=True)
class PlannedVariant:
    """A variant as its trials train it: with its matched size, budget and tuned learning rate."""

    name: str
    choices: Mapping[str, str]
    spec: RunSpec
    costs: Costs
    n_steps: int
    differences: Sequence[str]  # readable differences from the baseline
    residue: str = ""  # the width that size matching chose, and the difference in size that is left
    tuned: str = ""  # the value that the learning-rate grid chose, or its state
    is_tuned: bool = True  # False until the learning-rate grid has chosen a value
    tuning_failed: bool = False  # True if all trials of the learning-rate grid failed
    tuning: Tuning | None = None  # the learning-rate grid and its results so far
    recommended: Sequence[str] = ()  # settings that the axes have taken along
    left_out: Sequence[str] = ()  # settings that its components recommend, and that it has not
    reference: str = ""  # the variant that it is compared with, if that is not the baseline of the ablation
    task_metrics: Sequence[TaskMetric] = ()  # of its synthetic task

    @property
    def n_tokens(self) -> int:
        """Training tokens of one trial."""
        return self.n_steps * tokens_per_step(self.spec)

    @property
    def flops(self) -> float | None:
        """Training FLOPs of one trial, or None if unknown."""
        per_token = self.costs.flops_per_token
        return None if per_token is None else per_token * self.n_tokens

    def as_variant(self) -> Variant:
        """Convert to the record that is stored in variants.json."""
        spec = self.spec.resolved()
        del spec["seed"]
        return Variant(
            name=self.name,
            choices=self.choices,
            n_parameters=self.costs.n_parameters,
            flops_per_token=self.costs.flops_per_token,
            cache_bytes=self.costs.cache_bytes,
            differences=self.differences,
            residue=self.residue,
            tuned=self.tuned,
            spec=spec,
            memory_bytes=self.costs.memory_bytes,
            tuning=self.tuning,
            recommended=self.recommended,
            left_out=self.left_out,
            exports_as=exports_as(self.spec.model),
            steps=self.n_steps,
            tokens=self.n_tokens,
            reference=self.reference,
            task_metrics=self.task_metrics,
        )


@dataclass(frozen=True)
class PlannedLength:
    """The baseline at another length: complete runs with their own learning-rate decay."""

    multiple: float  # of the baseline's own number of steps
    n_steps: int
    trials: Sequence[PlannedTrial]

    @property
    def name(self) -> str:
        """The name of its trials, such as "rope-x0.5"."""
        return self.trials[0].variant


@dataclass(frozen=True)
class Plan:
    """The plan of an ablation, as far as the results so far determine it."""

    spec: AblationSpec
    variants: Sequence[PlannedVariant]
    baseline: str
    axes: Mapping[str, Sequence[str]]
    factorial: bool
    paired: bool
    exclusions: Sequence[Exclusion]
    merged: Mapping[str, Sequence[Mapping[str, str]]]  # choices whose specs equal that of a variant, by its name
    trials: Sequence[PlannedTrial]  # of the final comparison; only of variants that are tuned and selected
    tuning: Sequence[PlannedTrial]  # of the learning-rate grids
    halving: HalvingPlan | None = None
    selection: Selection | None = None  # the rungs of successive halving so far
    selecting: Sequence[PlannedTrial] = ()  # the trials of the current rung, which pause there
    search: Search | None = None  # the suggestions so far, in mode tpe
    higher_is_better: bool = False  # direction of the metric
    task_axes: Sequence[str] = ()  # axes over synthetic tasks; variants are compared within a task
    seeds_seen: Sequence[int] = ()  # numbers of seeds of earlier plans of which results were seen
    notes: Sequence[str] = ()  # caveats to read before the ablation runs
    warnings: Sequence[ComparisonWarning] = ()  # reasons to doubt the comparison, which the results repeat
    baseline_lengths: Sequence[PlannedLength] = ()  # the baseline at other lengths; () until it is tuned

    @property
    def final_trials(self) -> list[PlannedTrial]:
        """The trials of the final comparison, and then those of the baseline at other lengths."""
        return [*self.trials, *(trial for length in self.baseline_lengths for trial in length.trials)]

    @property
    def is_tuned(self) -> bool:
        """True when the grid of every variant has chosen a value or failed."""
        return all(variant.is_tuned or variant.tuning_failed for variant in self.variants)

    @property
    def n_extension_trials(self) -> int:
        """The largest number of trials that extending the grids may add."""
        if self.spec.tune is None or not self.spec.tune.extend:
            return 0
        open_grids = [v.tuning for v in self.variants if v.tuning is not None and not (v.is_tuned or v.tuning_failed)]
        return sum(MAX_ADDED - grid.n_added for grid in open_grids) * len(self.spec.tune.seeds)

    @property
    def n_compared(self) -> int:
        """The number of variants that the final comparison has with a baseline, or its expected number."""
        if self.selection is None:
            return sum(variant.name not in (self.baseline, variant.reference) for variant in self.variants)
        if self.selection.finalists is not None:
            return len(self.selection.finalists)
        assert self.halving is not None
        return rung_sizes(self.halving.n_expected, self.halving.eta, self.selection.n_rungs)[-1]

    @property
    def wants_suggestions(self) -> bool:
        """True if the results of all suggestions are known, and the search is not complete."""
        if self.selection is None or self.search is None or self.search.complete:
            return False
        entries = [entry for rung in self.selection.rungs for entry in rung.entries if entry.variant != self.baseline]
        return all(trial.state in ("done", "failed") for entry in entries for trial in entry.trials.values())

    def phases(self) -> Iterator[tuple[int, float]]:
        """Yield the number of trials, and their average number of steps, of each rung and of the final comparison."""
        halving = self.halving
        assert halving is not None
        n_variants = len(self.variants)
        sizes = rung_sizes(halving.n_expected, halving.eta, len(halving.steps[self.baseline]))
        previous = 0.0
        for number, n_candidates in enumerate(sizes[:-1]):
            reached = sum(steps[number] for steps in halving.steps.values()) / n_variants
            yield (n_candidates + 1) * len(halving.seeds), reached - previous
            previous = reached
        final_steps = sum(variant.n_steps for variant in self.variants) / n_variants
        yield (sizes[-1] + 1) * len(self.spec.seeds), final_steps
