"""The signatures of the optimizers in the installed libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import math
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import torch

from gptzoo_optimizers.catalog import Option, Scope, Signature
from gptzoo_optimizers.generate.descriptions import describe_option
from gptzoo_optimizers.generate.papers import paper_of, summary_of
from gptzoo_optimizers.generate.refusals import NOT_OFFERED

_NO_OPTIONS = ("self", "params", "lr", "weight_decay", "kwargs")
_LR = 1e-3  # where the library has no default
_CHOICES: dict[str, tuple[str, ...]] = {  # of words that no annotation lists
    "q_dtype": ("float32", "bfloat16"),
    "memory_save_mode": ("one_diag", "smart_one_diag", "all_diag"),
    "update_scale": ("preserve_norm", "match_rms_adamw"),
    "rebound": ("constant", "belief"),
    "weight_decay_type": ("l2", "decoupled", "stable"),
}
_TYPES = {  # of options without a default or an annotation that tells
    "beta": "float",
    "precond_init_scale": "float",
}
_SHORT_NAMES = {
    "adamwschedulefree": "adamw",
    "adamwschedulefreepaper": "adamw_paper",
    "radamschedulefree": "radam",
    "sgdschedulefree": "sgd",
}
_FOR_MATRICES = re.compile(
    r"heavyball\.(muon(laprop)?|(heavy)?(kl)?(soap|shampoo|solp).*)|pytorch_optimizer\.spectralsphere"
)
"""Optimizers that treat a parameter as a matrix whatever its shape, so they are given the matrices in blocks only."""

_DEFAULTS: dict[str, Any] = {  # in place of the library's
    "pytorch_optimizer.schedulefreesgd:lr": 0.1,  # with 1.0 it does not train a quadratic of curvature 1
    "schedulefree.sgd:lr": 0.1,
    "heavyball.lather:precond_init_scale": 0.1,  # the library's default fails for a parameter without a gradient
    "heavyball.psgdkron:precond_init_scale": 0.1,
    "pytorch_optimizer.adafactor:relative_step": False,  # a relative step ignores the schedule
}


def classes_of(library: str) -> dict[str, type[torch.optim.Optimizer]]:
    """Return the optimizer classes of a library by their name in specs."""
    module: Any = importlib.import_module(library)
    if library == "pytorch_optimizer":
        found = {name: module.load_optimizer(name) for name in module.get_supported_optimizers()}
    else:
        members = {name: getattr(module, name) for name in getattr(module, "__all__", dir(module))}
        found = {
            name.lower(): value
            for name, value in members.items()
            if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
        }
    if library == "schedulefree":
        found = {_SHORT_NAMES.get(name, name): cls for name, cls in found.items()}
    return {f"{library}.{name}": found[name] for name in sorted(found)}


def version_of(library: str) -> str:
    """Return the installed version of a library."""
    return importlib.metadata.version(library)


def inspect_optimizer(name: str, cls: type) -> Signature:
    """Return the signature of an optimizer, without the bounds of its options."""
    library, _, short_name = name.partition(".")
    arguments = inspect.signature(cls).parameters
    lr = _DEFAULTS.get(f"{name}:lr", arguments["lr"].default if "lr" in arguments else _LR)
    weight_decay = arguments["weight_decay"].default if "weight_decay" in arguments else None
    return Signature(
        library=library,
        name=short_name,
        class_name=cls.__name__,
        summary=summary_of(name, cls),
        paper=paper_of(name, cls),
        lr=float(lr) if isinstance(lr, int | float) else _LR,
        weight_decay=None if weight_decay is None else float(weight_decay),
        scope=_scope(name, cls),
        has_modes=callable(getattr(cls, "eval", None)) and callable(getattr(cls, "train", None)),
        options=dict(_options(name, cls, arguments)),
    )


def _scope(name: str, cls: type) -> Scope:
    if _FOR_MATRICES.fullmatch(name):
        return "matrices"
    return "flagged matrices" if "use_muon" in inspect.getsource(cls) else "all"


def _options(
    optimizer: str, cls: type, arguments: typing.Mapping[str, inspect.Parameter]
) -> Iterator[tuple[str, Option]]:
    """Yield the options of a class that a spec can hold."""
    annotations = typing.get_type_hints(cls.__init__)
    for name, parameter in arguments.items():
        if name in (*_NO_OPTIONS, *NOT_OFFERED) or parameter.kind is parameter.VAR_KEYWORD:
            continue
        default = parameter.default
        if type(default) is object:  # heavyball: the attribute of the class
            default = getattr(cls, name, None)
        default = _DEFAULTS.get(f"{optimizer}:{name}", default)
        if name == "weight_decouple":
            default = True  # as in gptzoo's own optimizers
        option = _option(cls, name, default, annotations.get(name))
        if option is not None:
            yield name, option


def _option(cls: type, name: str, default: object, annotation: object) -> Option | None:
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    nullable = default is None
    choices = next((get_args(member) for member in members if get_origin(member) is Literal), _CHOICES.get(name, ()))
    kind: Any = None
    if choices and (default is None or isinstance(default, str)):
        kind = "str"
    elif isinstance(default, bool):
        kind = "bool"
    elif isinstance(default, int):
        kind = "float" if annotation is float else "int"
    elif isinstance(default, float) and math.isfinite(default):
        kind = "float"
    elif isinstance(default, tuple) and default and all(isinstance(item, int | float) for item in default):
        kind = "floats" if any(isinstance(item, float) for item in default) else "ints"
    elif default is None:
        numbers = [member.__name__ for member in members if member in (int, float)]
        kind = numbers[0] if numbers else _TYPES.get(name)
    if kind is None:
        return None
    value = [*default] if isinstance(default, tuple) else default
    value = float(value) if kind == "float" and value is not None else value
    return Option(
        value,
        kind,
        describe_option(cls, name),
        bounds=({},) * len(value) if isinstance(value, list) else (),
        choices=choices if kind == "str" else (),
        nullable=nullable,
    )
