"""The bounds of options, found by trying values: a value is allowed if the optimizer accepts it and takes steps."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from pydantic import ValidationError
from torch import nn

from gptzoo_optimizers.catalog import Bounds, Option, Signature
from gptzoo_optimizers.components import component_of

_SHAPES = {
    "blocks.0.attention.qkv.weight": (12, 6),
    "blocks.0.ffn.down.weight": (6, 8),
    "blocks.0.norm.weight": (6,),
    "embed.weight": (9, 6),
}
_STEPS = 8
_TINY = 1e-6
_FLOATS = (1.0, 2.0, 10.0, 100.0)
_INTEGERS = (0, 1, 2, 3, 4, 8, 100, 1000)


def with_bounds(signature: Signature) -> Signature:
    """Return a signature with the bounds of all its numbers, without options of one allowed value."""
    options = {}
    for name, option in signature.options.items():
        if option.type == "bool":
            if accepts(signature, {name: not option.default}):
                options[name] = option
        elif option.type == "str":
            choices = [choice for choice in option.choices if accepts(signature, {name: choice})]
            if len(choices) + option.nullable > 1:
                options[name] = dataclasses.replace(option, choices=choices)
        else:
            options[name] = dataclasses.replace(option, bounds=_bounds_of_option(signature, name, option))
    return dataclasses.replace(signature, options=options)


def accepts(signature: Signature, options: Mapping[str, object]) -> bool:
    """Return True if the optimizer can be created with these options, and its steps keep all weights finite."""
    component = component_of(signature)
    generator = torch.Generator().manual_seed(1)
    parameters = {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in _SHAPES.items()}
    torch.manual_seed(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = component.Config.model_validate({"type": component.name, **options})
            built = config.build()
            optimizer = built.create(parameters)
            for _ in range(_STEPS):
                for parameter in parameters.values():
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
                    parameter.grad[0] = 0.0  # as those of tokens that are not in a batch
                optimizer.step()
            values = {**parameters, **(built.evaluation_weights(optimizer, parameters) or {})}
    except ValidationError:
        raise
    except Exception:
        return False
    return all(bool(tensor.isfinite().all()) for tensor in (*parameters.values(), *values.values()))


def _bounds_of_option(signature: Signature, name: str, option: Option) -> Sequence[Bounds]:
    is_decay_rate = name.startswith(("beta", "momentum")) or name.endswith("_beta")
    if option.type in ("int", "float"):

        def is_accepted(value: float) -> bool:
            return accepts(signature, {name: value})

        return (_bounds(option.type, option.default, is_decay_rate, is_accepted),)

    def is_item_accepted(index: int, value: float) -> bool:
        items = [*option.default]
        items[index] = value
        return accepts(signature, {name: items})

    return tuple(
        _bounds(option.type.removesuffix("s"), default, is_decay_rate, functools.partial(is_item_accepted, index))
        for index, default in enumerate(option.default)
    )


def _bounds(type_name: str, default: float | None, is_decay_rate: bool, is_accepted: Callable[[float], bool]) -> Bounds:
    """Return the bounds of one number. A number that is not negative by default is never negative.

    A decay rate below 1 by default stays below 1 as well: not all libraries check it.
    """
    if default is not None and default < 0:
        return {} if type_name == "int" or is_accepted(_TINY) else {"lt": 0.0}
    if type_name == "int":
        accepted = [value for value in _INTEGERS if is_accepted(value)] + ([] if default is None else [int(default)])
        highest = {} if max(_INTEGERS) in accepted else {"le": max(accepted, default=1)}
        return {"ge": min(accepted, default=1), **highest}
    bounds = {"ge": 0.0} if is_accepted(0.0) else {"gt": 0.0}
    if is_decay_rate and (default or 0.0) < 1.0:
        return bounds | {"lt": 1.0}
    accepted_floats = [value for value in _FLOATS if is_accepted(value)]
    if max(_FLOATS) in accepted_floats:
        return bounds
    if not accepted_floats and (default or 0.0) < 1.0:
        return bounds | {"lt": 1.0}
    return bounds | {"le": max([*accepted_floats, default or 0.0])}
