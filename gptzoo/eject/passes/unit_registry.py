"""The units of a model: its components, and the functions and classes that they use."""

from __future__ import annotations

import ast
import copy
import types
from typing import Any

from torch import nn

from gptzoo.component import Component, Config
from gptzoo.components.norm import Norm
from gptzoo.eject.passes.plain import PLAIN_FUNCTIONS
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.syntax.merge import merged_methods
from gptzoo.eject.syntax.source import definition
from gptzoo.model.architecture import Architecture
from gptzoo.model.decoder import Decoder


class UnitRegistry:
    """The units of a model by name, made when they are asked for first."""

    def __init__(self, model: Decoder, *, plain: bool):
        self.plain = plain
        self.units: dict[str, Unit] = {}
        self._by_key: dict[object, Unit] = {}
        self._packages = {"gptzoo"}
        self._instances: dict[tuple[type, str], list[Any]] = {}
        for component in _components(model):
            self._packages |= _packages_of(component)
            self._instances.setdefault(_key(type(component), config_of(component)), []).append(component)
        for block in model.blocks:
            self._packages |= _packages_of(block.norm)

    def is_ours(self, item: object) -> bool:
        """Return True for a class or function that is written into the file."""
        return getattr(item, "__module__", None) is not None and item.__module__.partition(".")[0] in self._packages

    def unit_of(self, cls: type, config: Config) -> Unit:
        """Return the unit of a component with a config."""
        key = _key(cls, config)
        if key not in self._by_key:
            unit = self._add(key, cls.__name__, cls)
            unit.instances, unit.config = self._instances.get(key, []), config
            unit.raw = merged_methods(cls, lambda base: self.is_ours(base) and base is not Component)
            _split_initialise(unit)
        return self._by_key[key]

    def unit_of_function(self, function: types.FunctionType) -> Unit:
        """Return the unit of a function."""
        if function not in self._by_key:
            unit = self._add(function, function.__name__.lstrip("_"), function)
            plain = PLAIN_FUNCTIONS.get(f"{function.__module__}.{function.__name__}")
            source = plain if plain is not None and self.plain else function
            unit.raw = {"": definition(source)}
        return self._by_key[function]

    def unit_of_helper(self, cls: type) -> Unit:
        """Return the unit of a class that is no component."""
        if cls not in self._by_key:
            unit = self._add(cls, cls.__name__.lstrip("_"), cls)
            if not _is_record(cls):
                unit.raw = merged_methods(cls, self.is_ours)
        return self._by_key[cls]

    def _add(self, key: object, name: str, cls: object) -> Unit:
        """Add a unit whose name is unique in the file."""
        number = 1
        unique = name
        while unique in self.units:
            number += 1
            unique = f"{name}{number}"
        unit = self.units[unique] = self._by_key[key] = Unit(unique, cls)
        return unit


def _components(model: nn.Module) -> list[Component]:
    """Return the components that a model is made of, except for the architecture and the norms of blocks."""
    found: list[Component] = []
    for module in model.modules():
        candidates = [module, *vars(module).values()]
        found += [c for c in candidates if isinstance(c, Component) and not isinstance(c, Architecture | Norm)]
    return found


def config_of(component: Component) -> Config:
    """Return the config that a component was built with."""
    config: Config = component.config  # type: ignore[attr-defined]
    return config


def _packages_of(component: Component) -> set[str]:
    """Return the top-level packages of the classes of a component, except for those of torch and Python."""
    found = {cls.__module__.partition(".")[0] for cls in type(component).__mro__}
    return found - {"torch", "builtins", "typing", "abc"}


def _key(cls: type, config: Config) -> tuple[type, str]:
    return cls, config.model_dump_json()


def _is_record(cls: type) -> bool:
    return issubclass(cls, tuple) or hasattr(cls, "__dataclass_fields__")


def _split_initialise(unit: Unit) -> None:
    """Split `initialise` into the initial values of parameters and the values of computed buffers."""
    method = unit.raw.pop("initialise", None)
    if method is None or not issubclass(unit.cls, nn.Module):
        return
    computed = {name for instance in unit.instances for name in instance._non_persistent_buffers_set}
    stored = {name for i in unit.instances for name in (*i._parameters, *i._buffers) if name not in computed}
    method.args.args = method.args.args[:1]
    for name, dropped in (("reset_parameters", computed), ("reset_buffers", stored)):
        copied = copy.deepcopy(method)
        copied.name = name
        copied.body = [statement for statement in copied.body if not _mentions(statement, dropped)]
        unit.raw[name] = copied
    if not computed:
        del unit.raw["reset_buffers"]
    if not any(i._parameters or set(i._buffers) - computed for i in unit.instances):
        del unit.raw["reset_parameters"]


def _mentions(statement: ast.stmt, names: set[str]) -> bool:
    attributes = {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
    return bool(attributes & names)
