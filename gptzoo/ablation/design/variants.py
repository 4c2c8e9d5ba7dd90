"""The variants of a base: every point of a design that is a valid spec, each once, by the hash of what it describes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

from pydantic import TypeAdapter, ValidationError

from gptzoo.ablation.design.axes import Axis, Choice, apply, condition_problems, labels, read_axes
from gptzoo.ablation.design.points import Point, points
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.records.outcome import Exclusion
from gptzoo.errors import Problem, SpecError
from gptzoo.spec import ablation as spec
from gptzoo.spec.files import model_json, run_json, spec_error
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec

S = TypeVar("S", bound=RunSpec | ModelSpec)

_AXES: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, spec.Axis])
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Enumerated(Generic[S]):
    """A variant: its name, the label of its choice on each axis, and its spec."""

    name: str
    choices: Mapping[str, str]
    spec: S
    digest: str  # of what the spec describes: names are left out
    merged: Sequence[Mapping[str, str]] = ()  # choices that describe the same


@dataclass(frozen=True)
class Variants(Sequence[Enumerated[S]]):
    """The variants of a base in the order of the design, and what is none."""

    found: Sequence[Enumerated[S]]
    baseline: str  # the name of the variant that the others are compared with
    exclusions: Sequence[Exclusion]
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # labels by axis
    complete: bool = False  # every combination of choices is a variant of its own, or excluded
    at_points: Sequence[str | None] = ()  # of a design that is listed, the variant at each point, None where none is

    @overload
    def __getitem__(self, index: int) -> Enumerated[S]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Enumerated[S]]: ...
    def __getitem__(self, index: Any) -> Any:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)


def variants(
    base: RunSpec | ModelSpec | Mapping[str, Any] | str | Path,
    axes: Mapping[str, Any],
    *,
    mode: spec.Mode = "grid",
    n: int | None = None,
    seed: int = 0,
    baseline: Mapping[str, Any] | None = None,
    exclude: Iterable[Mapping[str, Any]] = (),
) -> Variants[Any]:
    """Every valid variant of a run spec, or of a model spec, along the axes: `{"model.norm": "*", …}`.

    What an axis can be, the modes, and `exclude` are those of `ablation.json` (`docs/ablations.md`). The variants have
    names, labels of their choices and specs; `.exclusions` says which points are none and why. Points that describe the
    same are one variant. Raises SpecError.
    """
    written: Any = base.resolved() if isinstance(base, RunSpec | ModelSpec) else base
    is_run = isinstance(base, RunSpec) or (not isinstance(base, ModelSpec) and _describes_a_run(written))
    data = run_json(written) if is_run else model_json(written)
    try:
        read = _AXES.validate_python(dict(axes))
        left_out = [spec.ExclusionSpec.model_validate(dict(one)) for one in exclude]
    except ValidationError as error:
        raise spec_error(error, {(): "axes"}) from None
    if mode == "tpe" or any(axis.low is not None for axis in read.values()):
        raise SpecError(
            [Problem("axes", "$", "what tpe suggests, from ranges too, depends on results: use gptzoo.ablate")]
        )
    model: type[RunSpec | ModelSpec] = RunSpec if is_run else ModelSpec
    return enumerate_variants(
        model, data, read, mode=mode, n=n, seed=seed, baseline=baseline or {}, exclude=left_out, folder=Path.cwd()
    )


def enumerate_variants(
    model: type[S],
    base: dict[str, Any],
    axes: Mapping[str, spec.AxisSpec],
    *,
    mode: spec.Mode,
    n: int | None,
    seed: int,
    baseline: Mapping[str, Any],
    exclude: Sequence[spec.ExclusionSpec],
    folder: Path,
    points: Sequence[Mapping[str, str]] = (),
) -> Variants[S]:
    """`variants` of JSON that is valid; `folder` is what paths in the choices are relative to.

    `points` are those of mode tpe: what was suggested, a label for each axis.
    """
    walk = _Enumeration(model, base, read_axes(axes, model, base), exclude, folder, points)
    return walk.run(mode, n, seed, baseline)


def digest_of(described: RunSpec | ModelSpec) -> str:
    """The hash of what a spec describes; what it is called does not matter."""
    resolved = described.resolved()
    for named in (resolved, resolved.get("model", {})):
        named.pop("name", None)
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _describes_a_run(written: Any) -> bool:
    from gptzoo.spec.strict_json import parse_json

    if isinstance(written, str | Path):
        path = Path(written)
        if not path.is_file():
            return True  # whose reader says what is wrong
        written = parse_json(path.read_text(encoding="utf-8", errors="replace"), path.name)
    return "model" in written


class _Enumeration(Generic[S]):
    """One walk over a design."""

    def __init__(
        self,
        model: type[S],
        base: dict[str, Any],
        axes: Sequence[Axis],
        exclude: Sequence[spec.ExclusionSpec],
        folder: Path,
        listed: Sequence[Mapping[str, str]] = (),
    ):
        self.model, self.base, self.axes = model, base, axes
        self.reader = SpecReader(folder)
        self.labels = {axis.name: [choice.label for choice in axis.choices] for axis in axes}
        self.listed = [one for one in listed if all(label in self.labels[name] for name, label in one.items())]
        self.conditions = [({name: labels(of) for name, of in one.when.items()}, one.because) for one in exclude]
        problems = [
            problem
            for index, (when, _) in enumerate(self.conditions)
            for problem in condition_problems(when, self.labels, f"exclude[{index}].when")
        ]
        if problems:
            raise SpecError(problems)

    def run(self, mode: spec.Mode, n: int | None, seed: int, baseline: Mapping[str, Any]) -> Variants[S]:
        reference = self._baseline(baseline)
        sizes = [len(axis.choices) for axis in self.axes]
        found: dict[str, _Found[S]] = {}
        exclusions: list[Exclusion] = []
        conditional = any(axis.when for axis in self.axes)
        merged = False
        digests: list[str | None] = []
        for point in self._points(mode, sizes, reference, n, seed):
            made = self._make(point)
            digests.append(None if isinstance(made, Exclusion) else made.digest)
            if isinstance(made, Exclusion):
                exclusions.append(made)
            elif made.digest in found:
                merged |= found[made.digest].choices != made.choices
                found[made.digest].also.append(made.choices)
            else:
                found[made.digest] = made
            if mode == "random" and len(found) == n:
                break
        first = self._make(reference)
        if isinstance(first, Exclusion):
            raise SpecError([Problem("axes", "$.baseline", f"the baseline is left out: {first.reason}")])
        if first.digest not in found:  # random, latin and tpe may have missed it
            found = {first.digest: first, **found}
        named = list(_with_names(list(found.values()), None if mode != "one_at_a_time" else first, self.axes))
        names = {one.digest: one.name for one in named}
        complete = mode == "grid" and not conditional and not merged
        at_points = [None if digest is None else names[digest] for digest in digests] if mode == "tpe" else []
        return Variants(named, names[first.digest], exclusions, self.labels, complete, at_points)

    def _points(
        self, mode: spec.Mode, sizes: Sequence[int], reference: Point, n: int | None, seed: int
    ) -> Iterator[Point]:
        if mode == "tpe":
            yield from (
                tuple(self.labels[axis.name].index(one[axis.name]) for axis in self.axes) for one in self.listed
            )
            return
        try:
            yield from points(mode, sizes, reference, n=n, seed=seed)
        except ValueError as error:
            raise SpecError([Problem("axes", "$.mode", str(error))]) from None

    def _baseline(self, wanted: Mapping[str, Any]) -> Point:
        """The choice on each axis that is asked for, or else leaves the base as it is, or else is the first."""
        named = {name: labels(label) for name, label in wanted.items()}
        if problems := condition_problems(named, self.labels, "$.baseline"):
            raise SpecError(problems)
        own = digest_of(self.reader.read(self.model, self.base))
        return tuple(self._choice_on(axis, named.get(axis.name), own) for axis in self.axes)

    def _choice_on(self, axis: Axis, wanted: frozenset[str] | None, own: str) -> int:
        if wanted is not None:
            return next(index for index, choice in enumerate(axis.choices) if choice.label in wanted)
        for index, choice in enumerate(axis.choices):
            try:
                made = self.reader.read(self.model, apply(self.model, self.base, [choice]))
            except SpecError:
                continue  # which is an exclusion, told with its reason, when the point comes
            if digest_of(made) == own:
                return index
        return 0

    def _make(self, point: Point) -> _Found[S] | Exclusion:
        chosen = {axis.name: axis.choices[index] for axis, index in zip(self.axes, point, strict=True)}
        named = {name: choice.label for name, choice in chosen.items()}
        chosen = {axis.name: chosen[axis.name] for axis in self.axes if _holds(axis.when, named)}
        told = {name: choice.label for name, choice in chosen.items()}
        for when, because in self.conditions:
            if _holds(when, told):
                return Exclusion(told, because or "left out: " + ", ".join(f"{axis} {told[axis]}" for axis in when))
        try:
            made = self.reader.read(self.model, apply(self.model, self.base, chosen.values()))
        except SpecError as error:
            return Exclusion(told, "; ".join(f"{problem.path}: {problem.reason}" for problem in error.problems))
        return _Found(chosen, told, made, digest_of(made), [])


@dataclass(frozen=True)
class _Found(Generic[S]):
    """A valid point."""

    chosen: Mapping[str, Choice]
    choices: Mapping[str, str]
    spec: S
    digest: str
    also: list[Mapping[str, str]]


def _holds(when: Mapping[str, frozenset[str]], told: Mapping[str, str]) -> bool:
    return all(told.get(axis) in wanted for axis, wanted in when.items())


def _with_names(
    found: Sequence[_Found[S]], baseline: _Found[S] | None, axes: Sequence[Axis]
) -> Iterator[Enumerated[S]]:
    """The variants with a name each: of its choices where there are some, or of those that a baseline has not."""
    open_axes = [axis.name for axis in axes if len(axis.choices) > 1]
    taken: set[str] = set()
    for one in found:
        chosen = [one.chosen[name] for name in open_axes if name in one.chosen]
        if baseline is not None:
            chosen = [one.chosen[name] for name in one.chosen if one.chosen[name] != baseline.chosen.get(name)]
        name = "-".join(choice.slug for choice in chosen) or "baseline"
        if len(name) > _LONGEST_NAME or name in taken:
            name = f"{name[:_LONGEST_NAME]}-{one.digest[:6]}"
        taken.add(name)
        described = cast(S, one.spec.model_copy(update={"name": name}))
        yield Enumerated(name, one.choices, described, one.digest, tuple(one.also))
