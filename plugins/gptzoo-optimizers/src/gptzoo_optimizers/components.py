"""Component classes for the signatures of libraries' optimizers."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, Strict, create_model
from torch import Tensor, nn

import gptzoo
from gptzoo_optimizers.catalog import Option, Signature

_TYPES: Mapping[str, type] = {"bool": bool, "int": int, "float": float, "ints": int, "floats": float}


class _FromLibrary:
    """Mixin of the components: constructs the library's optimizer with the options of the spec."""

    signature: ClassVar[Signature]
    config: Any  # each component has its own options

    def create_from(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the library's optimizer for groups of parameters, ready for training."""
        signature = self.signature
        library = importlib.import_module(signature.library)
        if signature.library == "heavyball":
            library.utils.compile_mode = None  # compiled kernels need a C++ compiler, and minutes
        options = {name: getattr(self.config, name) for name in signature.options}
        optimizer: Any = getattr(library, signature.class_name)(groups, lr=self.config.lr, **options)
        if signature.has_modes:
            optimizer.train()
        return optimizer  # type: ignore[no-any-return]

    def evaluation_weights(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> Mapping[str, Tensor] | None:
        if not self.signature.has_modes or not any(optimizer.state.values()):
            return None  # before the first step both weights are the same
        with _evaluating(optimizer, parameters):
            return {name: parameter.detach().clone() for name, parameter in parameters.items()}


class _WithoutWeightDecay(_FromLibrary, gptzoo.Optimizer):
    """Base class of optimizers that have no weight decay."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return self.create_from([{"params": list(_sorted(parameters).values()), "lr": self.config.lr}])


class _ForAll(_FromLibrary, gptzoo.GroupedOptimizer):
    """Base class of optimizers that update all parameters."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return self.create_from(self.groups(_sorted(parameters)))


class _ForMatrices(_FromLibrary, gptzoo.MatrixOptimizer):
    """Base class of optimizers that update the matrices in blocks."""

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return super().create(_sorted(parameters))

    def create_for_matrices(
        self, groups: list[dict[str, Any]], parameters: Mapping[str, nn.Parameter]
    ) -> torch.optim.Optimizer:
        flag = {"use_muon": True} if self.signature.scope == "flagged matrices" else {}
        return self.create_from([{**group, **flag} for group in groups])


def component_of(signature: Signature) -> type[gptzoo.Component]:
    """Return the component class of a library's optimizer."""
    if signature.scope != "all":
        base: type[gptzoo.Optimizer] = _ForMatrices
    else:
        base = _WithoutWeightDecay if signature.weight_decay is None else _ForAll
    doc = f"{signature.summary}\n\nThe class `{signature.class_name}` of the library {signature.library}."
    fields: dict[str, Any] = {"type": (Literal[signature.full_name], signature.full_name)}
    fields["lr"] = _field(PositiveFloat, signature.lr, _LR_OF[base])
    if signature.weight_decay is not None:
        fields["weight_decay"] = _field(NonNegativeFloat, signature.weight_decay, _WEIGHT_DECAY_OF[base])
    for name, option in signature.options.items():
        fields[name] = _field(_annotation(option), option.default, option.description)
    attributes = {
        "__doc__": doc,
        "__module__": __name__,
        "__qualname__": f"{signature.library}.{signature.class_name}",
        "name": signature.full_name,
        "paper": signature.paper,
        "signature": signature,
        "Config": create_model(
            f"{signature.class_name}.Config", __base__=base.Config, __module__=__name__, __doc__=doc, **fields
        ),
    }
    return type(signature.class_name, (base,), attributes)


_LR = "Peak learning rate{}, scaled by the schedule."
_WEIGHT_DECAY = "Weight decay{}."
_LR_OF: Mapping[type, str] = {
    _WithoutWeightDecay: _LR.format(""),
    _ForAll: _LR.format(""),
    _ForMatrices: _LR.format(" of the matrices in blocks"),
}
_WEIGHT_DECAY_OF: Mapping[type, str] = {
    _ForAll: _WEIGHT_DECAY.format(" of matrices, embeddings included; biases and norms have none"),
    _ForMatrices: _WEIGHT_DECAY.format(" of the matrices in blocks"),
}


def _field(annotation: object, default: object, description: str) -> tuple[object, object]:
    value = tuple(default) if isinstance(default, list) else default
    return annotation, Field(value, description=description)


def _annotation(option: Option) -> object:
    """Return the type of an option with its bounds."""
    if option.type == "str":
        annotation: Any = Literal[tuple(option.choices)]
    elif option.type in ("ints", "floats"):
        items = tuple(_bounded(_TYPES[option.type], bounds) for bounds in option.bounds)
        annotation = Annotated[tuple[items], Strict(False)]  # type: ignore[valid-type]
    else:
        annotation = _bounded(_TYPES[option.type], next(iter(option.bounds), {}))
    return annotation | None if option.nullable else annotation


def _bounded(number: type, bounds: Mapping[str, float]) -> object:
    return Annotated[number, Field(**bounds)] if bounds else number  # type: ignore[arg-type]


def _sorted(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Sort parameters by name, so that random numbers which an optimizer draws in their order are always the same."""
    return dict(sorted(parameters.items()))


@contextlib.contextmanager
def _evaluating(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Put an optimizer and the parameters into evaluation mode for the length of the block."""
    with_modes: Any = optimizer
    trained = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with_modes.eval()
        yield
    finally:
        with_modes.train()
        with torch.no_grad():
            for name, value in trained.items():
                parameters[name].copy_(value)  # the libraries compute the trained weights anew, with rounding
