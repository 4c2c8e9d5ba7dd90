"""From a spec to a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gptzoo.errors import Problem, SpecError
from gptzoo.model.architecture import Architecture
from gptzoo.model.initialise import initialise, plain_tensor_attributes, shared_parameters
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec


def build(
    spec: ModelSpec | str | Path | Mapping[str, Any], *, device: str | torch.device = "cpu", seed: int = 1
) -> Architecture:
    """The model that a spec (or its file, or its JSON as a dict) describes, with initial values that `seed` decides.

    On the meta device it has shapes and no values, and takes no memory. Values are made on the CPU and then moved, so
    they are the same on every device. Raises SpecError.
    """
    if not isinstance(spec, ModelSpec):
        spec = load_model_spec(spec)
    model = assemble(spec)
    if torch.device(device).type == "meta":
        return model
    model.to_empty(device="cpu")
    initialise(model, seed)
    return model.to(device)


class _NoInitialValues(TorchFunctionMode):
    """Makes `torch.nn.init` do nothing: what torch's layers draw when they are made would be overwritten anyway.

    On the meta device drawing it would also import torch's compiler, which takes longer than all the rest.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


def assemble(spec: ModelSpec) -> Architecture:
    """The model on the meta device: every shape, no value."""
    if spec.vocab_size is None:
        raise SpecError(
            [Problem(spec.name, "$.vocab_size", "is required to build a model; in a run the tokenizer gives it")]
        )
    with torch.device("meta"), _NoInitialValues():
        model: Architecture = spec.architecture.build(spec)
    if plain := plain_tensor_attributes(model):
        raise RuntimeError(
            f"{', '.join(plain)}: a plain tensor attribute; use register_buffer, so that it moves with the model"
        )
    if shared := shared_parameters(model):
        raise RuntimeError(f"{' and '.join(shared)} are one parameter; let one module own it and hand it to the other")
    return model
