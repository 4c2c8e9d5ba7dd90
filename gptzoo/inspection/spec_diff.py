"""What is different between two specs, and between the models that they build: proof that only the intended changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gptzoo.component import SpecModel
from gptzoo.model.accounting import account
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import assemble, build
from gptzoo.spec.json_diff import Change, differences
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec

VALUES_LIMIT = 2**30  # bytes of weights; a larger model's initial values are compared when asked for


@dataclass(frozen=True)
class InitialValues:
    """Of the parameters and buffers with one name and shape: how many were compared, and which differ."""

    compared: int
    differ: tuple[str, ...]
    skipped: str | None = None  # why none was compared


@dataclass(frozen=True)
class Difference:
    """All that differs between a and b. Runs are compared with their optimizers, models without."""

    spec: tuple[Change, ...]  # by `$.path`
    modules: tuple[Change, ...]  # by path in the module tree
    parameters: tuple[Change, ...]  # by name; their shapes
    initial_values: InitialValues
    optimizer: tuple[Change, ...]  # by parameter; the options of its group
    costs: tuple[Change, ...]

    @property
    def equal(self) -> bool:
        """Whether nothing differs, as far as it was compared."""
        changes = (*self.spec, *self.modules, *self.parameters, *self.optimizer, *self.costs)
        return not changes and not self.initial_values.differ

    def as_dict(self) -> dict[str, Any]:
        return {"equal": self.equal, **asdict(self)}


def compare(a: ModelSpec | RunSpec, b: ModelSpec | RunSpec, *, values: bool | None = None) -> Difference:
    """Compare two specs, both of models with a vocab_size or both of runs with such models.

    `values`: whether to fill both models and compare initial values too; None does so if they are not too large.
    """
    spec_a, spec_b = model_of(a), model_of(b)
    model_a, model_b = assemble(spec_a), assemble(spec_b)
    return Difference(
        spec=tuple(differences(_fields(a), _fields(b))),
        modules=_changes(_modules(model_a), _modules(model_b)),
        parameters=_changes(_shapes(model_a), _shapes(model_b)),
        initial_values=_initial_values(a, b, _n_bytes(model_a) + _n_bytes(model_b), values),
        optimizer=tuple(_update_changes(_updates(a, model_a), _updates(b, model_b))),
        costs=_changes(_costs(spec_a), _costs(spec_b)),
    )


def model_of(spec: ModelSpec | RunSpec) -> ModelSpec:
    """The model that a spec describes."""
    return spec.model if isinstance(spec, RunSpec) else spec


def _fields(spec: SpecModel) -> dict[str, Any]:
    return {name: value for name, value in spec.model_dump(mode="json").items() if name != "name"}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """The names that only one has, or that stand for something else, in the order of a."""
    return tuple(
        Change(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)
    )


def _modules(model: Architecture) -> dict[str, str]:
    return {path: f"{type(m).__name__}({m.extra_repr()})" for path, m in model.named_modules() if path}


def _shapes(model: Architecture) -> dict[str, str]:
    """Shapes of parameters and buffers, with the dtype of what is no parameter."""
    shapes = {name: str(list(parameter.shape)) for name, parameter in model.named_parameters()}
    buffers = {name: f"{list(buffer.shape)} buffer, {buffer.dtype}" for name, buffer in model.named_buffers()}
    return shapes | buffers


def _n_bytes(model: Architecture) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _initial_values(a: ModelSpec | RunSpec, b: ModelSpec | RunSpec, n_bytes: int, wanted: bool | None) -> InitialValues:
    if wanted is False:
        return InitialValues(0, (), "not asked for")
    if wanted is None and n_bytes > VALUES_LIMIT:
        return InitialValues(0, (), f"the two models would take {n_bytes / 2**30:.1f} GiB")
    values_a, values_b = _values(a), _values(b)
    shared = [name for name in values_a if name in values_b and values_a[name].shape == values_b[name].shape]
    return InitialValues(len(shared), tuple(name for name in shared if not torch.equal(values_a[name], values_b[name])))


def _values(spec: ModelSpec | RunSpec) -> dict[str, Tensor]:
    model = build(model_of(spec), seed=spec.seed if isinstance(spec, RunSpec) else 1)
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _updates(spec: ModelSpec | RunSpec, model: Architecture) -> dict[str, dict[str, Any]]:
    """For each parameter the optimizer that updates it, with the options of the group that it is in."""
    if not isinstance(spec, RunSpec):
        return {}
    parameters = dict(model.named_parameters())
    optimizer = spec.optimizer.build().create(parameters)
    kind = type(optimizer).__name__
    by_id: dict[int, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        options = {"optimizer": kind, **{name: value for name, value in group.items() if name != "params"}}
        by_id |= {id(parameter): options for parameter in group["params"]}
    return {name: by_id.get(id(parameter), {"optimizer": None}) for name, parameter in parameters.items()}


def _update_changes(a: Mapping[str, dict[str, Any]], b: Mapping[str, dict[str, Any]]) -> Iterator[Change]:
    """The options that differ, by parameter; of one that only a or b has, those that tell its group from others."""
    everywhere = [*a.values(), *b.values()]
    names = {name for options in everywhere for name in options}
    telling = {name for name in names if any(options.get(name) != everywhere[0].get(name) for options in everywhere)}
    for parameter in dict.fromkeys([*a, *b]):
        of_a, of_b = a.get(parameter), b.get(parameter)
        if of_a is None or of_b is None:
            shown = telling
        else:
            shown = {name for name in telling if of_a.get(name) != of_b.get(name)}
        if shown:
            yield Change(parameter, _chosen(of_a, shown), _chosen(of_b, shown))


def _chosen(options: Mapping[str, Any] | None, names: set[str]) -> dict[str, Any] | None:
    return None if options is None else {name: value for name, value in options.items() if name in names}


def _costs(spec: ModelSpec) -> dict[str, int | None]:
    costs = account(spec)
    flops, memory = costs.flops_per_token, costs.training_memory
    return {
        "parameters": costs.parameters.total,
        "parameters without embeddings": costs.parameters.non_embedding,
        "forward FLOPs per token": flops.forward if flops else None,
        "training FLOPs per token": flops.training if flops else None,
        "cache bytes per token": costs.kv_cache_bytes_per_token,
        "state bytes of a full row": costs.state_bytes,
        "training bytes, batch of 1": memory.total_bytes if memory else None,
    }
