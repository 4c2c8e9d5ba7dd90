"""Axes over tasks: the corpus generates other held-out samples for each choice, so variants compare within a task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gptzoo.ablation.design.costs import CostCache, sample_sets
from gptzoo.ablation.design.enumeration import EnumeratedVariant, Variants
from gptzoo.ablation.records.tasks import TaskMetric
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec


@dataclass(frozen=True)
class TaskDesign:
    """The axes over tasks, and the variant that each variant is compared with."""

    axes: Sequence[str] = ()
    references: Mapping[str, str] = field(default_factory=dict)  # by variant; empty without axes over tasks

    def reference_of(self, variant: str, baseline: str) -> str:
        """Return the variant that a variant is compared with: the baseline of its task, which may be itself."""
        return self.references.get(variant, baseline)


def read_task_design(spec: AblationSpec, enumerated: Variants[RunSpec]) -> TaskDesign:
    """Find the axes over tasks, and the reference of each variant. Raises SpecError for a design without references.

    An axis is over tasks if all corpora generate samples and each of its choices has held-out samples of its own.
    """
    digests = {variant.name: _held_out_digest(variant.spec, spec.metric) for variant in enumerated}
    if None in digests.values() or len(set(digests.values())) == 1:
        return TaskDesign()
    axes = [path for path, labels in enumerated.axes.items() if len(labels) > 1 and _decides(path, enumerated, digests)]
    if not axes:
        return TaskDesign()
    if spec.halving is not None:
        reason = (
            f"cannot be combined with the axis {axes[0]!r} over tasks, because a rung would rank results on different "
            "tasks. Remove halving"
        )
        raise SpecError([Problem(spec.name, "$.halving", reason)])
    baseline = next(variant for variant in enumerated if variant.name == enumerated.baseline)
    at = {_key(choices): variant.name for variant, choices in _points(enumerated)}
    references = {}
    for variant in enumerated:
        wanted = {**baseline.choices, **{axis: variant.choices[axis] for axis in axes if axis in variant.choices}}
        if (reference := at.get(_key(wanted))) is None:
            reason = (
                f"{variant.name} has no variant to be compared with on its task: the one with "
                f"{', '.join(f'{axis} {label}' for axis, label in wanted.items())}. Use mode grid, and exclude no "
                "variant with the baseline's choices"
            )
            raise SpecError([Problem(spec.name, "$.axes", reason)])
        references[variant.name] = reference
    if all(name == reference for name, reference in references.items()):
        reason = (
            f"the variants have different held-out samples, because of the axis {axes[0]!r}, so none can be compared "
            "with another. Compare models on the same samples: give all variants the same corpus, or add an axis that "
            "changes the model, such as model.attention"
        )
        raise SpecError([Problem(spec.name, "$.axes", reason)])
    return TaskDesign(axes, references)


def task_metrics(run: RunSpec, costs: CostCache) -> list[TaskMetric]:
    """Return the metrics that the corpus of a run declares, and those of its levels. [] for a corpus of documents."""
    state_bytes = costs.costs(run).state_bytes
    return [
        TaskMetric(
            f"val/{level}{name}", corpus.sample_length, corpus.chance[name], state_bytes.get(corpus.sample_length)
        )
        for level, corpus in sample_sets(run.corpus).items()
        for name in corpus.metric_names
    ]


def _held_out_digest(run: RunSpec, metric: str) -> str | None:
    """Return a digest of the held-out samples, and of those of the level that the metric is of. None for documents."""
    sets = sample_sets(run.corpus)
    if not sets:
        return None
    measured = {"", metric.removeprefix("val/").rpartition("/")[0]}
    return " ".join(corpus.held_out_digest() for prefix, corpus in sets.items() if prefix.rstrip("/") in measured)


def _decides(axis: str, enumerated: Variants[RunSpec], digests: Mapping[str, str | None]) -> bool:
    """Return True if the choice on an axis decides the held-out samples, together with no other axis."""
    by_label: dict[str | None, set[str | None]] = {}
    for variant in enumerated:
        by_label.setdefault(variant.choices.get(axis), set()).add(digests[variant.name])
    return all(len(found) == 1 for found in by_label.values())


def _points(
    enumerated: Variants[RunSpec],
) -> Iterator[tuple[EnumeratedVariant[RunSpec], Mapping[str, str]]]:
    for variant in enumerated:
        for choices in (variant.choices, *variant.merged):
            yield variant, choices


def _key(choices: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(choices.items()))
