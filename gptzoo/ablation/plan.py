"""From the spec of an ablation to its trials: variants enumerated, made comparable, costed, and given seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.costs import Costs, Ledger, tokens_per_step
from gptzoo.ablation.outcome import Exclusion, Variant
from gptzoo.ablation.variants import Enumerated, Variants, digest_of, enumerate_variants
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.compare import differences
from gptzoo.spec.run import RunSpec

_SAME_DATA = ("corpus", "tokenizer", "batching")


@dataclass(frozen=True)
class PlannedTrial:
    """A variant with a seed. `name` is that of its folder, and ends in a hash of its spec."""

    name: str
    variant: str
    seed: int
    spec: RunSpec


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
    trials: Sequence[PlannedTrial]
    notes: Sequence[str] = ()  # what a reader should know before it runs


def make_plan(spec: AblationSpec, folder: Path) -> Plan:
    """The plan of an ablation whose trials are in `folder`, where some may be already. Raises SpecError."""
    found = enumerate_variants(
        RunSpec,
        dict(spec.base),
        spec.axes,
        mode=spec.mode,
        n=spec.n_variants,
        seed=spec.draw_seed,
        baseline=spec.baseline,
        exclude=spec.exclude,
        folder=spec.folder,
    )
    ledger = Ledger()
    baseline = next(one for one in found if one.name == found.baseline)
    planned = [_planned(one, baseline, ledger) for one in found]
    _check_metric(spec, planned)
    return Plan(
        spec=spec,
        variants=planned,
        baseline=found.baseline,
        axes=found.axes,
        factorial=found.complete,
        paired=_same_data(planned),
        exclusions=found.exclusions,
        merged={one.name: one.merged for one in found if one.merged},
        trials=list(_trials(planned, spec.seeds, folder)),
        notes=list(_notes(found, planned)),
    )


def _planned(one: Enumerated[RunSpec], baseline: Enumerated[RunSpec], ledger: Ledger) -> PlannedVariant:
    return PlannedVariant(
        name=one.name,
        choices=one.choices,
        spec=one.spec,
        costs=ledger.costs(one.spec),
        n_steps=ledger.n_steps(one.spec),
        differences=in_words(baseline.spec, one.spec),
    )


def in_words(baseline: RunSpec, variant: RunSpec) -> list[str]:
    """How a variant differs from the baseline; of a part that is another, not each of its options."""
    changes = list(differences(baseline.resolved(), variant.resolved()))
    replaced = [change.name.removesuffix(".type") for change in changes if change.name.endswith(".type")]
    told = []
    for change in changes:
        place = change.name.removesuffix(".type")
        within = any(place.startswith(f"{part}.") for part in replaced)
        if within or (place in replaced and not change.name.endswith(".type")) or place in ("$.name", "$.model.name"):
            continue
        told.append(f"{place.removeprefix('$.')}: {_brief(change.a)} -> {_brief(change.b)}")
    return told


def _brief(value: Any) -> str:
    from gptzoo.ablation.axes import label_of

    return label_of(value)


def _trials(planned: Sequence[PlannedVariant], seeds: Sequence[int], folder: Path) -> Iterator[PlannedTrial]:
    """Seed by seed, so that every variant has a first result before any has a second."""
    there = _folders(folder)
    for seed in sorted(seeds):
        for variant in planned:
            spec = variant.spec.model_copy(update={"seed": seed})
            digest = digest_of(spec)[:8]
            name = there.get(digest) or f"{variant.name}-seed{seed}-{digest}"
            yield PlannedTrial(name, variant.name, seed, spec)


def _folders(folder: Path) -> dict[str, str]:
    """The folders of trials that are there, by the hash at their end: a variant may have had another name."""
    trials = folder / "trials"
    names = sorted(entry.name for entry in trials.iterdir()) if trials.is_dir() else []
    return {match[1]: name for name in names if (match := re.search(r"-seed\d+-([0-9a-f]{8})$", name))}


def _same_data(planned: Sequence[PlannedVariant]) -> bool:
    """Whether trials of one seed see the same samples in the same order."""
    seen = {
        (variant.spec.model.context_length, *(getattr(variant.spec, name).model_dump_json() for name in _SAME_DATA))
        for variant in planned
    }
    return len(seen) == 1


def _check_metric(spec: AblationSpec, planned: Sequence[PlannedVariant]) -> None:
    """A loss per token says nothing across tokenizers."""
    tokenizers = {variant.spec.tokenizer.model_dump_json() for variant in planned}
    if len(tokenizers) > 1 and spec.metric in ("val/loss", "train/loss", "val/ema_loss"):
        reason = f"{spec.metric!r} is per token, and the tokenizers differ; compare val/bits_per_byte"
        raise SpecError([Problem(spec.name, "$.metric", reason)])


def _notes(found: Variants[RunSpec], planned: Sequence[PlannedVariant]) -> Iterator[str]:
    for axis, labels in found.axes.items():
        for label in labels:
            if not any(one.choices.get(axis) == label for one in (*found, *_merged(found))):
                yield f"{axis} {label} is in no variant"
    if len({variant.n_tokens for variant in planned}) > 1:
        yield "variants see different numbers of tokens: give a budget to make them equal"
    for variant in planned:
        if variant.costs.unknown:
            yield f"{variant.name}: FLOPs and memory cannot be told: {variant.costs.unknown}"


def _merged(found: Variants[RunSpec]) -> Iterator[Any]:
    for one in found:
        for choices in one.merged:
            yield Enumerated(one.name, choices, one.spec, one.digest)
