"""The program that a model runs: its units, and the values that are known of their calls."""

from __future__ import annotations

import ast
import copy
import inspect
import types
from dataclasses import replace
from typing import Any

from gptzoo.component import Component, Config
from gptzoo.components.context import ForwardContext
from gptzoo.components.norm import Norm, NormLayer
from gptzoo.components.part import Part
from gptzoo.eject.passes.plain import plain_module
from gptzoo.eject.passes.unit import DIMENSIONS, Callee, Unit
from gptzoo.eject.passes.unit_registry import UnitRegistry, config_of
from gptzoo.eject.passes.values import ASSUMED, CONTEXT, UNKNOWN, Evaluator
from gptzoo.eject.syntax.merge import Substitute, arguments_of, merged_methods, without_docstring
from gptzoo.eject.syntax.source import global_name, meaning, own_attribute
from gptzoo.eject.syntax.write import write
from gptzoo.model.architecture import Architecture
from gptzoo.model.decoder import Decoder


class Program(UnitRegistry):
    """All units of a model, and the values that are known of their calls."""

    def __init__(self, model: Decoder, *, padding: bool, plain: bool):
        super().__init__(model, plain=plain)
        self.model = model
        self.padding = padding
        self.dims = model.spec.dims
        self.sizes = {name: getattr(self.dims, attribute) for attribute, name in DIMENSIONS.items()}
        self.known: dict[tuple[str, str], dict[str, object]] = {}  # parameters with one value in all calls
        self.elements: dict[tuple[str, str], dict[int, object]] = {}  # elements of results that are always the same
        self.facts: dict[tuple[str, str], ast.FunctionDef] = {}  # the newest folded form of every method
        self.folding = ""  # the method that is being folded
        self.positionals = [self.unit_of(type(p), p.config) for p in model.positionals]
        self.has_ring = _has_ring(model)
        self.context = self._add(ForwardContext, "Context", ForwardContext)
        self.context.raw = merged_methods(ForwardContext, lambda cls: cls is ForwardContext)

    def context_value(self, name: str) -> object:
        """Return the value of a field of the forward context."""
        if name in ASSUMED:
            return ASSUMED[name]
        if name == "self_bias" and not any(p.component.requires & {"bias"} for p in self._positional_configs):
            return None
        if name == "positional" and len({unit.name for unit in self.positionals}) == 1:
            return self.model.positionals[0]
        return UNKNOWN

    @property
    def _positional_configs(self) -> list[Any]:
        return [positional.config for positional in self.model.positionals]

    def context_field(self, name: str) -> str:
        """Return the field that stands for a field of the forward context. Without padding two are the same."""
        return "no_past" if name == "trivially_causal" and not self.padding else name

    def callee(self, scope: Evaluator, call: ast.Call) -> Callee | None:
        """Return the method that a call runs, if it is part of the file."""
        function = meaning(call.func)
        function = inspect.unwrap(function) if callable(function) and not isinstance(function, type) else function
        if isinstance(function, types.FunctionType) and self.is_ours(function):
            return Callee(self.unit_of_function(function), "")
        if not isinstance(call.func, ast.Attribute):
            return self._forward_of(scope.value(call.func))
        if isinstance(call.func.value, ast.Name) and call.func.value.id == "gptzoo":
            import gptzoo

            function = inspect.unwrap(getattr(gptzoo, call.func.attr))
            if isinstance(function, types.FunctionType):
                return Callee(self.unit_of_function(function), "")
        if own_attribute(call.func) in scope.unit.raw:
            return Callee(scope.unit, call.func.attr)
        owner = scope.value(call.func.value)
        if owner is CONTEXT and call.func.attr in self.context.raw:
            return Callee(self.context, call.func.attr)
        if isinstance(owner, Component) and not isinstance(owner, Architecture | Norm):
            unit = self.unit_of(type(owner), config_of(owner))
            if call.func.attr in unit.raw:
                return Callee(unit, call.func.attr)
        return self._forward_of(scope.value(call.func))

    def _forward_of(self, called: object) -> Callee | None:
        if not isinstance(called, Part) or isinstance(called, Architecture | Norm):
            return None
        if plain_module(called.config, []) is None:
            return Callee(self.unit_of(type(called), called.config), "forward")
        return None

    def known_result(self, scope: Evaluator, call: ast.Call) -> object:
        """Return the result of a call if it is always the same constant."""
        if ast.unparse(call.func) == "self.positional.bias" and self.context_value("self_bias") is None:
            return None
        callee = self.callee(scope, call)
        function = None if callee is None else self.facts.get(callee.key)
        if function is None:
            return UNKNOWN
        match without_docstring(function):
            case [ast.Return(value=ast.Constant(value=value))]:
                return value
            case [ast.Return(value=ast.Dict(keys=[]))]:
                return {}
        return UNKNOWN

    def known_elements(self, scope: Evaluator, call: ast.Call) -> dict[int, object]:
        """Return the elements of a result that are always the same, by index."""
        callee = self.callee(scope, call)
        return {} if callee is None else self.elements.get(callee.key, {})

    def known_element(self, scope: Evaluator, call: ast.Call, index: int) -> object:
        return self.known_elements(scope, call).get(index, UNKNOWN)

    def dropped_elements(self, unit: Unit) -> dict[int, object]:
        """Return the elements that the method being folded no longer returns."""
        return self.elements.get((unit.name, self.folding), {})

    def has_no_effect(self, scope: Evaluator, call: ast.Call) -> bool:
        """Return True for a call of a method that does nothing, or that only warns."""
        callee = self.callee(scope, call)
        function = None if callee is None else self.facts.get(callee.key)
        return function is not None and all(
            write([statement]).startswith(("pass", "warnings.warn(")) for statement in without_docstring(function)
        )

    def option(self, unit: Unit, name: str, value: float) -> ast.expr:
        """Return the expression of an option: a size of the model, a constant of the class, or a literal."""
        fields = {} if unit.config is None else type(unit.config).model_fields
        extra = fields[name].json_schema_extra if name in fields else None
        inherits = extra.get("inherits") if isinstance(extra, dict) else None
        if inherits in DIMENSIONS and getattr(self.dims, str(inherits)) == value:
            return ast.Name(DIMENSIONS[str(inherits)], ast.Load())
        if value == 0 or unit.is_function or name in _assigned_attributes(unit):
            return ast.Constant(value)
        unit.constants[name] = value
        return ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())

    def construction(self, config: Config, arguments: list[ast.expr]) -> ast.expr:
        """Return the expression that builds a part, in place of `config.build(…)`."""
        plain = plain_module(config, arguments)
        if plain is not None:
            return plain
        unit = self.unit_of(config.component, config)
        call = ast.Call(global_name(unit.name, unit), arguments, [])
        call.callee = Callee(unit, "__init__")  # type: ignore[attr-defined]
        return call

    def inlined(self, call: ast.Call) -> ast.expr:
        """Return the result of a trivial function in place of a call of it."""
        callee: Callee | None = getattr(call, "callee", None)
        function = None if callee is None else self.facts.get(callee.key)
        if callee is None or function is None:
            return call
        body = without_docstring(function)
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            return call
        given = arguments_of(function, call, skip_first=not callee.unit.is_function)
        if given is None or any(value is None for value in given.values()):
            return call
        result = copy.deepcopy(body[0].value)
        uses = [node.id for node in ast.walk(result) if isinstance(node, ast.Name)]
        if "self" in uses and not (isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "self"):
            return call
        if any(uses.count(name) > 1 for name in given) or not _is_trivial(callee, result):
            return call
        return Substitute({name: value for name, value in given.items() if value is not None}).visit(result)

    def only_width(self) -> ast.expr | None:
        """Return the width of rotated heads if it is the same in all layers."""
        widths = {width for positional in self.model.positionals for width in positional.rotary_dims}
        if len(widths) != 1:
            return None
        (width,) = widths
        return ast.Name("D_HEAD", ast.Load()) if width == self.dims.d_head else ast.Constant(width)

    def is_table_of_only_width(self, node: ast.Subscript) -> bool:
        """Return True for `tables[q.shape[-1]]` in a model that rotates heads of one width only."""
        is_table = isinstance(node.value, ast.Name) and node.value.id == "tables"
        return is_table and ast.unparse(node.slice).endswith(".shape[-1]") and self.only_width() is not None

    def mark_context_call(self, call: ast.Call) -> None:
        """Remember that a call makes a context, from which fields may be removed later."""
        call.makes_context = True  # type: ignore[attr-defined]
        if isinstance(call.func, ast.Attribute):  # `gptzoo.ForwardContext` or `dataclasses.replace`
            name = call.func.attr
            call.func = global_name(name, ForwardContext if name == "ForwardContext" else replace)

    def norm_layers(self) -> list[Unit]:
        """Return the classes of the norm layers of blocks and of both ends, except for those that torch has."""
        modules = [self.model.entry, self.model.exit, *(m for b in self.model.blocks for m in b.norm.modules())]
        configs = [m.config for m in modules if isinstance(m, NormLayer)]
        return [self.unit_of(c.component, c) for c in configs if plain_module(c, []) is None]


def _has_ring(model: Decoder) -> bool:
    """Return True if a cache has fewer slots than there are positions, so that it overwrites old ones."""
    length = model.spec.context_length
    states = model.new_states(1, length, device="meta")
    positions = [state["position"] for layer in states for state in layer.values() if "position" in state]
    return any(position.shape[1] <= length for position in positions)


def _assigned_attributes(unit: Unit) -> set[str]:
    assigned = {
        node.attr
        for method in unit.raw.values()
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    return assigned | set(unit.raw)


def _is_trivial(callee: Callee, result: ast.expr) -> bool:
    """Return True if a result is no longer than the call, so that it is easier to read in its place."""
    if isinstance(result, ast.Name | ast.Constant):
        return True
    if isinstance(result, ast.Tuple):
        return all(isinstance(element, ast.Name) for element in result.elts)
    is_stateless_part = not callee.unit.is_function and isinstance(callee.unit.cls, type)
    if is_stateless_part and issubclass(callee.unit.cls, Part):
        return callee.method == "forward" and not any(
            True for i in callee.unit.instances for _ in (*i.parameters(), *i.buffers())
        )
    arguments = [*result.args, *(k.value for k in result.keywords)] if isinstance(result, ast.Call) else [result]
    return all(isinstance(a, ast.Name | ast.Attribute | ast.Constant) for a in arguments)
