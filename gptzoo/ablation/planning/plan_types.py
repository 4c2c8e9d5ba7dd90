"""What an ablation is going to do, as data: its variants with their costs, and its trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.design.costs import Costs, tokens_per_step
from gptzoo.ablation.design.optuna_search import Search
from gptzoo.ablation.records.outcome import Exclusion, Variant
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.selection.halving import sizes
from gptzoo.ablation.selection.rungs import Contest
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class PlannedTrial:
    """A variant with a seed. `name` is that of its folder, and ends in a hash of its spec."""

    name: str
    variant: str
    seed: int
    spec: RunSpec
    until: int | None = None  # the step where it pauses
    rung: int | None = None  # of a selection, that it pauses at


@dataclass(frozen=True)
class PlannedVariant:
    """A variant as its trials will train it."""

    name: str
    choices: Mapping[str, str]
    spec: RunSpec
    costs: Costs
    n_steps: int
    differences: Sequence[str]
    residue: str = ""
    tuned: str = ""  # in words, what tuning chose or is about to choose
    ready: bool = True  # nothing is left to be tuned
    hopeless: bool = False  # every try of tuning failed

    @property
    def n_tokens(self) -> int:
        """Of training, of one trial."""
        return self.n_steps * tokens_per_step(self.spec)

    @property
    def flops(self) -> float | None:
        """Of training, of one trial."""
        per_token = self.costs.flops_per_token
        return None if per_token is None else per_token * self.n_tokens

    def as_variant(self) -> Variant:
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
        )


@dataclass(frozen=True)
class Plan:
    """All that an ablation is going to do."""

    spec: AblationSpec
    variants: Sequence[PlannedVariant]
    baseline: str
    axes: Mapping[str, Sequence[str]]
    factorial: bool
    paired: bool
    exclusions: Sequence[Exclusion]
    merged: Mapping[str, Sequence[Mapping[str, str]]]  # choices that describe the same as a variant, by its name
    trials: Sequence[PlannedTrial]  # those that variants are compared by; of those alone that are tuned and selected
    tuning: Sequence[PlannedTrial]  # those that tell which learning rate a variant gets
    contest: Contest | None = None  # what variants are selected by
    selection: Selection | None = None  # what that has said so far
    selecting: Sequence[PlannedTrial] = ()  # the trials of the rung that is going on, which pause there
    search: Search | None = None  # what was suggested, of mode tpe
    notes: Sequence[str] = ()  # what a reader should know before it runs

    @property
    def n_compared(self) -> int:
        """How many variants are compared with the baseline at the end, as far as can be told beforehand."""
        if self.selection is None:
            return len(self.variants) - 1
        if self.selection.finalists is not None:
            return len(self.selection.finalists)
        assert self.contest is not None
        return sizes(self.contest.n_expected, self.contest.eta, self.selection.n_rungs)[-1]

    @property
    def wants_suggestions(self) -> bool:
        """Whether all that was suggested is known, and more is wanted."""
        if self.selection is None or self.search is None or self.search.complete:
            return False
        entries = [entry for rung in self.selection.rungs for entry in rung.entries if entry.variant != self.baseline]
        return all(seen.state in ("done", "failed") for entry in entries for seen in entry.trials.values())

    def phases(self) -> Iterator[tuple[int, float]]:
        """Of each rung of a selection, and of the end: how many trials, and how many steps they make on average."""
        contest = self.contest
        assert contest is not None
        n_variants = len(self.variants)
        contestants = sizes(contest.n_expected, contest.eta, len(contest.steps[self.baseline]))
        before = 0.0
        for number, n in enumerate(contestants[:-1]):
            there = sum(steps[number] for steps in contest.steps.values()) / n_variants
            yield (n + 1) * len(contest.seeds), there - before
            before = there
        yield (contestants[-1] + 1) * len(self.spec.seeds), sum(one.n_steps for one in self.variants) / n_variants
