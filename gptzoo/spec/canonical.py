"""Comparison of specs by the function that their models compute, whatever a spec calls its components."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gptzoo.component import Config
from gptzoo.spec.model import PER_LAYER, ModelSpec

_COMPONENTS = ("architecture", "norm", *PER_LAYER)
_SIZES = ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "d_head", "tie_embeddings")
_TOLERANCE = 1e-9  # relative; far below the precision of float32, in which models compute


@dataclass(frozen=True)
class Difference:
    """One field in which two specs differ: its path, such as `$.attention.window`, and both values.

    The value of a component is its type.
    """

    path: str
    ours: object
    theirs: object
    training_only: bool = False  # both models compute the same function in evaluation


def canonical(spec: ModelSpec) -> ModelSpec:
    """Return the spec with the canonical config of every component; see `Config.canonical`.

    The multipliers of a parametrisation become options.
    """
    spec = spec.with_multipliers()
    return spec.model_copy(update={field: _canonical(getattr(spec, field), spec) for field in _COMPONENTS})


def compare(ours: ModelSpec, theirs: ModelSpec) -> Iterator[Difference]:
    """Yield the fields in which two canonical specs differ. `name` and `spec_version` do not count.

    `activation`, `dropout` and `bias` of the model count where components have inherited them. For a list over layers,
    only the first layer that differs is compared.
    """
    for field in _SIZES:
        if getattr(ours, field) != getattr(theirs, field):
            yield Difference(f"$.{field}", getattr(ours, field), getattr(theirs, field))
    for field in _COMPONENTS:
        if field not in PER_LAYER:
            yield from _compare(f"$.{field}", getattr(ours, field), getattr(theirs, field))
        elif ours.n_layers == theirs.n_layers:
            yield from _per_layer(f"$.{field}", ours.per_layer(field), theirs.per_layer(field))


def _canonical(value: object, spec: ModelSpec) -> object:
    if isinstance(value, tuple | list):
        return type(value)(_canonical(item, spec) for item in value)
    if not isinstance(value, Config):
        return value
    nested = {name: _canonical(getattr(value, name), spec) for name in type(value).model_fields}
    dims = spec.dims if spec.vocab_size else spec.model_copy(update={"vocab_size": 1}).dims
    return value.model_copy(update=nested).canonical(dims)


def _per_layer(path: str, ours: list[Any], theirs: list[Any]) -> Iterator[Difference]:
    """Yield the differences of the first layer that differs. Its index is in the path unless all layers are alike."""
    alike = all(config == configs[0] for configs in (ours, theirs) for config in configs)
    for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        found = list(_compare(path if alike else f"{path}[{layer}]", a, b))
        yield from found
        if any(not difference.training_only for difference in found) or (found and alike):
            return


def _compare(path: str, ours: object, theirs: object, *, training_only: bool = False) -> Iterator[Difference]:
    if isinstance(ours, Config) and isinstance(theirs, Config) and ours.type == theirs.type:
        for name in type(ours).model_fields:
            in_training = training_only or _acts_in_training_only(type(ours), name)
            yield from _compare(f"{path}.{name}", getattr(ours, name), getattr(theirs, name), training_only=in_training)
    elif isinstance(ours, Config) or isinstance(theirs, Config):
        yield Difference(path, _type_of(ours), _type_of(theirs), training_only)
    elif not _equal(ours, theirs):
        yield Difference(path, ours, theirs, training_only)


def _acts_in_training_only(config: type[Config], option: str) -> bool:
    extra = config.model_fields[option].json_schema_extra
    inherits_dropout = isinstance(extra, dict) and extra.get("inherits") == "dropout"
    return inherits_dropout or option in config.training_only


def _type_of(value: object) -> object:
    return value.type if isinstance(value, Config) else value


def _equal(ours: object, theirs: object) -> bool:
    if isinstance(ours, float) or isinstance(theirs, float):
        both = isinstance(ours, int | float) and isinstance(theirs, int | float)
        return both and math.isclose(ours, theirs, rel_tol=_TOLERANCE)  # type: ignore[arg-type]
    return ours == theirs
