"""The public function `variants`, which enumerates the variants of a run spec or a model spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gptzoo.ablation.design.enumeration import Variants, enumerate_variants
from gptzoo.errors import Problem, SpecError
from gptzoo.spec.ablation import Mode
from gptzoo.spec.ablation_axes import Axis, ExclusionSpec
from gptzoo.spec.files import model_json, run_json, spec_error
from gptzoo.spec.formats.origin import Origin
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.spec.strict_json import parse_json

_AXES: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Axis])


def variants(
    base: RunSpec | ModelSpec | Mapping[str, Any] | str | Path,
    axes: Mapping[str, Any],
    *,
    mode: Mode = "grid",
    n: int | None = None,
    seed: int = 0,
    baseline: Mapping[str, Any] | None = None,
    exclude: Iterable[Mapping[str, Any]] = (),
) -> Variants[Any]:
    """Enumerate the valid variants of a run spec or a model spec along axes such as `{"model.norm": "*"}`.

    Axes, modes and `exclude` are those of `ablation.json`; see `docs/ablations.md`. `n` is the number of points of the
    modes `random` and `latin`, and `seed` the random seed for drawing them.

    Each variant has a `name`, the labels of its `choices`, and a `spec`. Points with equal specs are one variant.
    `.exclusions` has the other points, with reasons. Raises SpecError.
    """
    data: Any = base.resolved() if isinstance(base, RunSpec | ModelSpec) else base
    is_run = isinstance(base, RunSpec) or (not isinstance(base, ModelSpec) and _is_run_spec(data))
    data = run_json(data) if is_run else model_json(data)
    try:
        axis_specs = _AXES.validate_python(dict(axes))
        exclusions = [ExclusionSpec.model_validate(dict(exclusion)) for exclusion in exclude]
    except ValidationError as error:
        raise spec_error(error, {(): Origin("axes")}) from None
    if mode == "tpe" or any(axis.low is not None for axis in axis_specs.values()):
        reason = "mode 'tpe' and ranges need the results of trials; use gptzoo.ablate"
        raise SpecError([Problem("axes", "$", reason)])
    model: type[RunSpec | ModelSpec] = RunSpec if is_run else ModelSpec
    return enumerate_variants(
        model,
        data,
        axis_specs,
        mode=mode,
        n=n,
        seed=seed,
        baseline=baseline or {},
        exclude=exclusions,
        folder=Path.cwd(),
    )


def _is_run_spec(source: str | Path | Mapping[str, Any]) -> bool:
    if not isinstance(source, str | Path):
        return "model" in source
    path = Path(source)
    if not path.is_file():
        return True  # run_json reports what is wrong
    return "model" in parse_json(path.read_text(encoding="utf-8", errors="replace"), path.name)
