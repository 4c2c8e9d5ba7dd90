"""The differences between two specs and the models they build: evidence that a variant changes only what it should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gptzoo.model.accounting import model_costs
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build, build_on_meta
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import StrictModel
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.utils.json_diff import Change, differences

MAX_AUTOMATIC_BYTES = 2**30  # weights of both models; initial values of larger models are compared only on request


@dataclass(frozen=True)
class InitialValues:
    """A comparison of the initial values of all parameters and buffers that have the same name and shape in a and b."""

    compared: int  # number of tensors
    differ: tuple[str, ...]  # names of the tensors whose values differ
    skipped: str | None = None  # the reason, if no values were compared


@dataclass(frozen=True)
class SpecDiff:
    """All differences between the specs a and b. The optimizer is compared for runs only."""

    spec: tuple[Change, ...]  # fields, by `$.path`
    modules: tuple[Change, ...]  # by path in the module tree
    parameters: tuple[Change, ...]  # shapes, by name
    initial_values: InitialValues
    optimizer: tuple[Change, ...]  # options of the parameter group, by parameter name
    costs: tuple[Change, ...]

    @property
    def equal(self) -> bool:
        """True if no difference was found. Initial values count only if they were compared."""
        changes = (*self.spec, *self.modules, *self.parameters, *self.optimizer, *self.costs)
        return not changes and not self.initial_values.differ

    def as_dict(self) -> dict[str, Any]:
        return {"equal": self.equal, **asdict(self)}


def compare_specs(a: ModelSpec | RunSpec, b: ModelSpec | RunSpec, *, values: bool | None = None) -> SpecDiff:
    """Compare two model specs that have a vocab_size, or two run specs with such models.

    values: True to build both models and compare their initial values, False to skip that. None compares them if the
        weights of both models together take at most 1 GiB.
    """
    spec_a, spec_b = _model_spec(a), _model_spec(b)
    model_a, model_b = build_on_meta(spec_a), build_on_meta(spec_b)
    return SpecDiff(
        spec=tuple(differences(_fields(a), _fields(b))),
        modules=_changes(_modules(model_a), _modules(model_b)),
        parameters=_changes(_shapes(model_a), _shapes(model_b)),
        initial_values=_compare_initial_values(a, b, _n_bytes(model_a) + _n_bytes(model_b), values),
        optimizer=tuple(_optimizer_changes(_optimizer_options(a, model_a), _optimizer_options(b, model_b))),
        costs=_changes(_costs(spec_a), _costs(spec_b)),
    )


def _model_spec(spec: ModelSpec | RunSpec) -> ModelSpec:
    return spec.model if isinstance(spec, RunSpec) else spec


def _fields(spec: StrictModel) -> dict[str, Any]:
    """Return the fields of a spec except its name, which does not affect the model."""
    return {name: value for name, value in spec.model_dump(mode="json").items() if name != "name"}


def _changes(a: Mapping[str, object], b: Mapping[str, object]) -> tuple[Change, ...]:
    """Return the entries that differ or are missing from one side, in the order of a."""
    return tuple(
        Change(name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)
    )


def _modules(model: Architecture) -> dict[str, str]:
    return {path: f"{type(m).__name__}({m.extra_repr()})" for path, m in model.named_modules() if path}


def _shapes(model: Architecture) -> dict[str, str]:
    """Return the shape of each parameter, and the shape and dtype of each buffer."""
    shapes = {name: str(list(parameter.shape)) for name, parameter in model.named_parameters()}
    buffers = {name: f"{list(buffer.shape)} buffer, {buffer.dtype}" for name, buffer in model.named_buffers()}
    return shapes | buffers


def _n_bytes(model: Architecture) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _compare_initial_values(
    a: ModelSpec | RunSpec, b: ModelSpec | RunSpec, n_bytes: int, requested: bool | None
) -> InitialValues:
    if requested is False:
        return InitialValues(0, (), "not requested")
    if requested is None and n_bytes > MAX_AUTOMATIC_BYTES:
        return InitialValues(0, (), f"the two models would take {n_bytes / 2**30:.1f} GiB")
    values_a, values_b = _initial_values(a), _initial_values(b)
    shared = [name for name in values_a if name in values_b and values_a[name].shape == values_b[name].shape]
    return InitialValues(len(shared), tuple(name for name in shared if not torch.equal(values_a[name], values_b[name])))


def _initial_values(spec: ModelSpec | RunSpec) -> dict[str, Tensor]:
    model = build(_model_spec(spec), seed=spec.seed if isinstance(spec, RunSpec) else 1)
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _optimizer_options(spec: ModelSpec | RunSpec, model: Architecture) -> dict[str, dict[str, Any]]:
    """Return the optimizer class and the options of the parameter group of each parameter."""
    if not isinstance(spec, RunSpec):
        return {}
    parameters = NamedParameters.of(model)
    optimizer = spec.optimizer.build().create(parameters)
    options_by_id: dict[int, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        options = {name: value for name, value in group.items() if name != "params"}
        options = {"optimizer": type(optimizer).__name__, **options}
        options_by_id |= {id(parameter): options for parameter in group["params"]}
    return {name: options_by_id.get(id(parameter), {"optimizer": None}) for name, parameter in parameters.items()}


def _optimizer_changes(a: Mapping[str, dict[str, Any]], b: Mapping[str, dict[str, Any]]) -> Iterator[Change]:
    """Yield the options that differ, by parameter.

    For a parameter that exists only in a or only in b, yield the options that vary between parameters.
    """
    all_options = [*a.values(), *b.values()]
    names = {name for options in all_options for name in options}
    varying = {name for name in names if any(options.get(name) != all_options[0].get(name) for options in all_options)}
    for parameter in dict.fromkeys([*a, *b]):
        options_a, options_b = a.get(parameter), b.get(parameter)
        if options_a is None or options_b is None:
            changed = varying
        else:
            changed = {name for name in varying if options_a.get(name) != options_b.get(name)}
        if changed:
            yield Change(parameter, _select_options(options_a, changed), _select_options(options_b, changed))


def _select_options(options: Mapping[str, Any] | None, names: set[str]) -> dict[str, Any] | None:
    return None if options is None else {name: value for name, value in options.items() if name in names}


def _costs(spec: ModelSpec) -> dict[str, int | None]:
    costs = model_costs(spec)
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
