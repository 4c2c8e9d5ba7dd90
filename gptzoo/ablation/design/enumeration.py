"""Enumeration of a design's variants: all points that are valid specs, without duplicates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

from gptzoo.ablation.design.axes import (
    Axis,
    Choice,
    apply_choices,
    condition_labels,
    condition_problems,
    read_axes,
)
from gptzoo.ablation.design.check_choices import check_choices
from gptzoo.ablation.design.points import Point, points
from gptzoo.ablation.design.recommended import take_along
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.records.outcome import Exclusion
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import Mode
from gptzoo.spec.ablation_axes import AxisSpec, ExclusionSpec
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import StrictModel

S = TypeVar("S", bound=RunSpec | ModelSpec)

MAX_NAME_LENGTH = 80
_CONTAINERS = (StrictModel, tuple, list)  # of components


@dataclass(frozen=True)
class EnumeratedVariant(Generic[S]):
    """A valid point of a design."""

    name: str
    choices: Mapping[str, str]  # label of the choice on each axis
    spec: S
    digest: str  # hash of the spec without names
    merged: Sequence[Mapping[str, str]] = ()  # the choices of other points with an equal spec
    recommended: Sequence[str] = ()  # settings that the axes have taken along


@dataclass(frozen=True)
class Variants(Sequence[EnumeratedVariant[S]]):
    """The variants of a base in the order of the design, and the points that were excluded."""

    items: Sequence[EnumeratedVariant[S]]
    baseline: str  # name of the variant with which the others are compared
    exclusions: Sequence[Exclusion]
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # labels by axis
    complete: bool = False  # True if every combination of choices is a variant of its own or excluded
    at_points: Sequence[str | None] = ()  # mode tpe: the variant of each suggested point, or None if it is excluded

    @overload
    def __getitem__(self, index: int) -> EnumeratedVariant[S]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[EnumeratedVariant[S]]: ...
    def __getitem__(self, index: int | slice) -> EnumeratedVariant[S] | Sequence[EnumeratedVariant[S]]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


def spec_digest(spec: RunSpec | ModelSpec) -> str:
    """Return a hash of a spec. Its name and that of its model do not affect the hash.

    Neither do options that later versions have added to a component, while they have their defaults: the trials of an
    older version keep their folders.
    """
    resolved = spec.resolved()
    _drop_added_options(spec, resolved)
    for named in (resolved, resolved.get("model", {})):
        named.pop("name", None)
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _drop_added_options(value: object, resolved: object) -> None:
    """Remove the fields with the mark `added` from the JSON of a spec where they have their default."""
    if isinstance(value, list | tuple) and isinstance(resolved, list):
        for item, resolved_item in zip(value, resolved, strict=True):
            _drop_added_options(item, resolved_item)
    if not isinstance(value, StrictModel) or not isinstance(resolved, dict):
        return
    for name, default in _added_options(type(value)):
        if getattr(value, name) == default:
            del resolved[name]
    for name, field_value in value.__dict__.items():
        if isinstance(field_value, _CONTAINERS) and name in resolved:
            _drop_added_options(field_value, resolved[name])


@cache
def _added_options(model: type[StrictModel]) -> tuple[tuple[str, object], ...]:
    """Return the fields of a class with the mark `added`, each with its default."""
    fields = ((name, field, field.json_schema_extra) for name, field in model.model_fields.items())
    return tuple((name, f.default) for name, f, extra in fields if isinstance(extra, dict) and extra.get("added"))


def enumerate_variants(
    model: type[S],
    base: dict[str, Any],
    axes: Mapping[str, AxisSpec],
    *,
    mode: Mode,
    n: int | None,
    seed: int,
    baseline: Mapping[str, Any],
    exclude: Sequence[ExclusionSpec],
    folder: Path,
    suggested: Sequence[Mapping[str, str]] = (),
) -> Variants[S]:
    """Enumerate the variants of a base. Raises SpecError.

    `base` is valid JSON for the spec class `model`. Relative paths in the choices are relative to `folder`. In mode tpe
    the points are `suggested`, by the label on each axis.
    """
    enumeration = _Enumeration(model, base, read_axes(axes, model, base), exclude, folder, suggested)
    return enumeration.run(mode, n, seed, baseline)


@dataclass(frozen=True)
class _ValidPoint(Generic[S]):
    chosen: Mapping[str, Choice]  # by axis
    choices: Mapping[str, str]  # labels by axis
    spec: S
    digest: str
    merged: list[Mapping[str, str]]
    recommended: Sequence[str]


class _Enumeration(Generic[S]):
    """The enumeration of one design."""

    def __init__(
        self,
        model: type[S],
        base: dict[str, Any],
        axes: Sequence[Axis],
        exclude: Sequence[ExclusionSpec],
        folder: Path,
        suggested: Sequence[Mapping[str, str]] = (),
    ):
        self.model, self.base, self.axes = model, base, axes
        check_choices(axes, model, folder)
        self.reader = SpecReader(folder)
        self.base_spec = self.reader.read(model, base)
        self.labels = {axis.name: [choice.label for choice in axis.choices] for axis in axes}
        self.suggested = [
            point for point in suggested if all(label in self.labels[name] for name, label in point.items())
        ]
        self.conditions = [
            ({name: condition_labels(wanted) for name, wanted in exclusion.when.items()}, exclusion.because)
            for exclusion in exclude
        ]
        problems = [
            problem
            for index, (when, _) in enumerate(self.conditions)
            for problem in condition_problems(when, self.labels, f"exclude[{index}].when")
        ]
        if problems:
            raise SpecError(problems)

    def run(self, mode: Mode, n: int | None, seed: int, baseline: Mapping[str, Any]) -> Variants[S]:
        baseline_point = self._baseline_point(baseline)
        sizes = [len(axis.choices) for axis in self.axes]
        valid: dict[str, _ValidPoint[S]] = {}  # by digest
        exclusions: list[Exclusion] = []
        has_merged = False
        digests: list[str | None] = []
        for point in self._points(mode, sizes, baseline_point, n, seed):
            candidate = self._read_point(point)
            if isinstance(candidate, Exclusion):
                digests.append(None)
                exclusions.append(candidate)
                continue
            digests.append(candidate.digest)
            if candidate.digest in valid:
                has_merged |= valid[candidate.digest].choices != candidate.choices
                valid[candidate.digest].merged.append(candidate.choices)
            else:
                valid[candidate.digest] = candidate
            if mode == "random" and len(valid) == n:
                break
        reference = self._read_point(baseline_point)
        if isinstance(reference, Exclusion):
            raise SpecError([Problem("axes", "$.baseline", f"the baseline is excluded: {reference.reason}")])
        if reference.digest not in valid:  # random, latin and tpe may have missed it
            valid = {reference.digest: reference, **valid}
        named = list(_with_names(list(valid.values()), reference if mode == "one_at_a_time" else None, self.axes))
        names = {variant.digest: variant.name for variant in named}
        return Variants(
            named,
            names[reference.digest],
            exclusions,
            self.labels,
            complete=mode == "grid" and not has_merged and not any(axis.when for axis in self.axes),
            at_points=[digest and names[digest] for digest in digests] if mode == "tpe" else [],
        )

    def _points(self, mode: Mode, sizes: Sequence[int], baseline: Point, n: int | None, seed: int) -> Iterator[Point]:
        if mode == "tpe":
            for labels in self.suggested:
                yield tuple(self.labels[axis.name].index(labels[axis.name]) for axis in self.axes)
            return
        try:
            yield from points(mode, sizes, baseline, n=n, seed=seed)
        except ValueError as error:
            raise SpecError([Problem("axes", "$.mode", str(error))]) from None

    def _baseline_point(self, wanted: Mapping[str, Any]) -> Point:
        """Return the baseline's choice on each axis: the wanted one, else that of the base itself, else the first."""
        labels = {name: condition_labels(label) for name, label in wanted.items()}
        if problems := condition_problems(labels, self.labels, "$.baseline"):
            raise SpecError(problems)
        base_digest = spec_digest(self.base_spec)
        return tuple(self._baseline_choice(axis, labels.get(axis.name), base_digest) for axis in self.axes)

    def _baseline_choice(self, axis: Axis, wanted: frozenset[str] | None, base_digest: str) -> int:
        if wanted is not None:
            return next(index for index, choice in enumerate(axis.choices) if choice.label in wanted)
        for index, choice in enumerate(axis.choices):
            try:
                spec = self.reader.read(self.model, apply_choices(self.model, self.base, [choice]))
            except SpecError:
                continue  # the point with this choice becomes an exclusion, which reports the reason
            if spec_digest(spec) == base_digest:
                return index
        return 0

    def _read_point(self, point: Point) -> _ValidPoint[S] | Exclusion:
        chosen = {axis.name: axis.choices[index] for axis, index in zip(self.axes, point, strict=True)}
        all_labels = {name: choice.label for name, choice in chosen.items()}
        chosen = {axis.name: chosen[axis.name] for axis in self.axes if _holds(axis.when, all_labels)}
        labels = {name: choice.label for name, choice in chosen.items()}
        for when, because in self.conditions:
            if _holds(when, labels):
                reason = because or "matches exclude: " + ", ".join(f"{axis} {labels[axis]}" for axis in when)
                return Exclusion(labels, reason)
        data = apply_choices(self.model, self.base, chosen.values())
        try:
            spec = self.reader.read(self.model, data)
        except SpecError as error:
            return Exclusion(labels, "; ".join(f"{problem.path}: {problem.reason}" for problem in error.problems))
        along = [chosen[axis.name] for axis in self.axes if axis.recommended and axis.name in chosen]
        spec, recommended = take_along(self.reader, spec, data, self.base_spec, chosen.values(), along)
        return _ValidPoint(chosen, labels, spec, spec_digest(spec), [], recommended)


def _holds(when: Mapping[str, frozenset[str]], labels: Mapping[str, str]) -> bool:
    return all(labels.get(axis) in wanted for axis, wanted in when.items())


def _with_names(
    valid: Sequence[_ValidPoint[S]], baseline: _ValidPoint[S] | None, axes: Sequence[Axis]
) -> Iterator[EnumeratedVariant[S]]:
    """Name each variant by its choices on the axes that have several, or by its differences from `baseline`."""
    varied = [axis.name for axis in axes if len(axis.choices) > 1]
    taken: set[str] = set()
    for point in valid:
        if baseline is None:
            chosen = [point.chosen[name] for name in varied if name in point.chosen]
        else:
            chosen = [choice for name, choice in point.chosen.items() if choice != baseline.chosen.get(name)]
        name = "-".join(choice.slug for choice in chosen) or "baseline"
        if len(name) > MAX_NAME_LENGTH or name in taken:
            name = f"{name[:MAX_NAME_LENGTH]}-{point.digest[:6]}"
        taken.add(name)
        spec = cast(S, point.spec.model_copy(update={"name": name}))
        yield EnumeratedVariant(name, point.choices, spec, point.digest, tuple(point.merged), point.recommended)
