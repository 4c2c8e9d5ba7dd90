"""Construction of a model from its spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gptzoo.errors import InputError, PluginError, Problem, SpecError
from gptzoo.model.architecture import Architecture
from gptzoo.model.initialise import initialise, shared_parameters, unregistered_tensors
from gptzoo.model.memory_need import CPU, check_fits, model_bytes
from gptzoo.model.width import width_scalings
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec


def build(
    spec: ModelSpec | str | Path | Mapping[str, Any],
    *,
    device: str | torch.device = "cpu",
    seed: int = 1,
    allow_oversize: bool = False,
) -> Architecture:
    """Build the model that `spec` describes, with random initial values that depend on `seed`.

    Values are drawn on the CPU and then moved, so they are the same on every device. On the meta device the model has
    shapes but no values, and takes no memory.

    Args:
        spec: A model spec, the path of its file, or its JSON as a dict.
        device: The device of the model.
        seed: Seed of the initial values.
        allow_oversize: Build the model even if its weights need more memory than the machine or the device has.

    Raises:
        SpecError: The spec is invalid, or has no vocab_size.
        PluginError: A component does not fill its parameters, or breaks another rule of construction.
        InputError: The weights need more memory than there is, or more than torch can address.
    """
    if not isinstance(spec, ModelSpec):
        spec = load_model_spec(spec)
    model = build_on_meta(spec)
    if torch.device(device).type == "meta":
        return model
    if not allow_oversize:
        n_parameters = sum(parameter.numel() for parameter in model.parameters())
        for place in dict.fromkeys((CPU, torch.device(device))):  # values are drawn on the CPU
            check_fits(model_bytes(model), place, f"{spec.name}: a model of {n_parameters:,} parameters")
    allocate_on_cpu(model)
    initialise(model, seed)
    return model.to(device)


class _SkipInit(TorchFunctionMode):
    """A context in which `torch.nn.init` does nothing, since `initialise` overwrites what constructors draw.

    On the meta device, drawing would also import torch's compiler, which takes longer than building the model.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: tuple[type, ...],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def build_on_meta(spec: ModelSpec) -> Architecture:
    """Build the model on the meta device, with shapes but no values."""
    if spec.vocab_size is None:
        reason = "is required to build a model. In a training run, the tokenizer sets it."
        raise SpecError([Problem(spec.name, "$.vocab_size", reason)])
    model = _construct(spec)
    if spec.parametrisation is not None:
        model.width_scalings = width_scalings(model, _construct(spec.at_base_width()), spec.name)
    if unregistered := unregistered_tensors(model):
        raise PluginError(
            f"{', '.join(unregistered)}: tensors as plain attributes do not move with the model. Use register_buffer."
        )
    if shared := shared_parameters(model):
        raise PluginError(
            f"{' and '.join(shared)} are the same parameter. Let one module own it and pass it to the other."
        )
    return model


def allocate_on_cpu(model: Architecture) -> None:
    """Give a model on the meta device memory on the CPU, without values.

    `to_empty` does the same, but torch computes `empty_like` of a meta tensor in Python, and imports sympy for it.
    """
    apply: Any = model._apply  # torch has no types for it
    apply(lambda tensor: torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu"))


def _construct(spec: ModelSpec) -> Architecture:
    plain = spec.with_multipliers()
    try:
        with torch.device("meta"), _SkipInit():
            model: Architecture = plain.architecture.build(plain)
    except (RuntimeError, TypeError) as error:  # torch has no class for it
        if "overflow" not in str(error).lower():
            raise
        reason = "a parameter of this model has more elements than torch can count. Choose smaller sizes"
        raise InputError(f"{spec.name}: {reason}") from None
    model.spec = spec
    return model
