"""The value of an expression inside one function, as far as it is known when a variant is ejected."""

from __future__ import annotations

import ast
import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gptzoo.component import Component, Config
from gptzoo.components.context import ForwardContext
from gptzoo.dims import Dims
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.passes.values import CONTEXT, UNKNOWN, Marker, Rows, common, is_number, is_plain, truth
from gptzoo.eject.syntax.source import UNRESOLVED, meaning, own_attribute

_FIXED_ATTRIBUTES = {"is_cpu": False, "is_cuda": False, "is_meta": False}
"""Attributes of tensors. They select faster ways of computing the same result on one device."""
_FIXED_CALLS = {"torch.compiler.is_compiling": False, "torch.amp.is_autocast_available": True}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_PURE_FUNCTIONS: dict[str, Callable[..., Any]] = {"max": max, "min": min, "int": int, "len": len, "abs": abs}


class Scope:
    """The known values of names and attributes inside one function."""

    def __init__(self, program: Program, unit: Unit, names: dict[str, object] | None = None):
        self.program = program
        self.unit = unit
        self.names: dict[str, object] = dict(names or {})

    def value(self, node: ast.AST | None) -> Any:  # noqa: ANN401  any Python value
        """Return the value of an expression, or UNKNOWN."""
        method = getattr(self, f"_of_{type(node).__name__.lower()}", None)
        return UNKNOWN if method is None else method(node)

    def _of_constant(self, node: ast.Constant) -> object:
        return node.value

    def _of_name(self, node: ast.Name) -> object:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in self.program.sizes:
            return self.program.sizes[node.id]
        value = meaning(node)
        return value if value is not UNRESOLVED and is_plain(value) else UNKNOWN

    def _of_attribute(self, node: ast.Attribute) -> object:
        if node.attr in _FIXED_ATTRIBUTES:
            return _FIXED_ATTRIBUTES[node.attr]
        if own_attribute(node) is not None and "self" not in self.names:
            return self.of_self(node.attr)
        base = self.value(node.value)
        if base is CONTEXT:
            return self.program.context_value(node.attr)
        return UNKNOWN if base is UNKNOWN else _attribute(base, node.attr)

    def of_self(self, name: str) -> object:
        """Return the value of an attribute of `self`, if all instances have the same."""
        if self.unit.cls is ForwardContext:
            return self.program.context_value(name)
        if not self.unit.instances or name == "training":
            return UNKNOWN
        return common(_attribute(instance, name) for instance in self.unit.instances)

    def _of_namedexpr(self, node: ast.NamedExpr) -> object:
        return self.value(node.value)

    def _of_tuple(self, node: ast.Tuple) -> object:
        values = tuple(self.value(element) for element in node.elts)
        return UNKNOWN if UNKNOWN in values else values

    def _of_dict(self, node: ast.Dict) -> object:
        keys, values = [self.value(key) for key in node.keys], [self.value(value) for value in node.values]
        return UNKNOWN if UNKNOWN in keys or UNKNOWN in values else dict(zip(keys, values, strict=True))

    def _of_unaryop(self, node: ast.UnaryOp) -> object:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            known = truth(value)
            return UNKNOWN if known is UNKNOWN else not known
        return -value if isinstance(node.op, ast.USub) and is_number(value) else UNKNOWN

    def _of_boolop(self, node: ast.BoolOp) -> object:
        stops_at = isinstance(node.op, ast.Or)
        value: object = UNKNOWN
        for operand in node.values:
            value = self.value(operand)
            if truth(value) is UNKNOWN or truth(value) is stops_at:
                return value if truth(value) is stops_at else UNKNOWN
        return value

    def _of_ifexp(self, node: ast.IfExp) -> object:
        known = self.test(node.test)
        return UNKNOWN if known is UNKNOWN else self.value(node.body if known else node.orelse)

    def _of_compare(self, node: ast.Compare) -> object:
        operands = [node.left, *node.comparators]
        values = [self.value(operand) for operand in operands]
        results = [_compare(op, a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False)]
        if False in results:
            return False
        return UNKNOWN if UNKNOWN in results else True

    def _of_binop(self, node: ast.BinOp) -> object:
        left, right = self.value(node.left), self.value(node.right)
        if not (is_number(left) and is_number(right)) or type(node.op) not in _ARITHMETIC:
            return UNKNOWN
        try:
            return _ARITHMETIC[type(node.op)](left, right)
        except ArithmeticError:
            return UNKNOWN

    def _of_subscript(self, node: ast.Subscript) -> object:
        index = self.value(node.slice)
        if isinstance(node.value, ast.Call) and isinstance(index, int):
            element = self.program.known_element(self, node.value, index)
            if element is not UNKNOWN:
                return element
        base = self.value(node.value)
        if index is UNKNOWN or not isinstance(base, tuple | dict | nn.ModuleDict | nn.ModuleList):
            return UNKNOWN
        try:
            return base[index]
        except (KeyError, IndexError):
            return UNKNOWN

    def _of_call(self, node: ast.Call) -> object:
        text = ast.unparse(node.func)
        if text in _FIXED_CALLS:
            return _FIXED_CALLS[text]
        if text == "isinstance":
            return self._isinstance(node)
        if meaning(node.func) is ForwardContext or text in ("gptzoo.ForwardContext", "ForwardContext"):
            return CONTEXT
        arguments = [self.value(argument) for argument in node.args]
        if text in ("zip", "enumerate"):
            elements = [_element(argument) for argument in arguments]
            return Rows(tuple(elements if text == "zip" else [UNKNOWN, *elements]))
        keywords = {keyword.arg or "": self.value(keyword.value) for keyword in node.keywords}
        if text in ("replace", "dataclasses.replace") and arguments[0] is CONTEXT:
            return CONTEXT
        if UNKNOWN not in arguments and UNKNOWN not in keywords.values():
            value = self._computed(node, text, arguments, keywords)
            if value is not UNKNOWN:
                return value
        return self.program.known_result(self, node)

    def _computed(self, node: ast.Call, text: str, arguments: list[Any], keywords: dict[str, Any]) -> object:
        """Return the result of a call with known arguments, if it is one that can be computed now."""
        if text in ("replace", "dataclasses.replace"):
            replaced = arguments[0]
            is_instance = dataclasses.is_dataclass(replaced) and not isinstance(replaced, type)
            return dataclasses.replace(replaced, **keywords) if is_instance else UNKNOWN
        if text in _PURE_FUNCTIONS and not keywords and arguments:
            return _PURE_FUNCTIONS[text](*arguments)
        if not isinstance(node.func, ast.Attribute) or node.func.attr == "build":
            return UNKNOWN
        owner = self.value(node.func.value)
        if isinstance(owner, Config):
            return getattr(owner, node.func.attr)(*arguments, **keywords)
        from_sizes = any(isinstance(argument, Config | Dims) for argument in arguments)
        if own_attribute(node.func) is not None and from_sizes:
            values = [getattr(i, node.func.attr)(*arguments, **keywords) for i in self.unit.instances]
            return common(values) if values else UNKNOWN
        return UNKNOWN

    def _isinstance(self, node: ast.Call) -> object:
        if "FakeTensor" in ast.unparse(node.args[1]):
            return False
        value = self.value(node.args[0])
        classes = _class_of(node.args[1])
        return UNKNOWN if value is UNKNOWN or classes is None else isinstance(value, classes)

    def test(self, node: ast.expr) -> object:
        """Return the truth of an expression of which only the truth matters, or UNKNOWN."""
        if isinstance(node, ast.BoolOp):
            tests = [self.test(operand) for operand in node.values]
            stops_at = isinstance(node.op, ast.Or)
            if stops_at in [test for test in tests if test is not UNKNOWN]:
                return stops_at
            return UNKNOWN if UNKNOWN in tests else not stops_at
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            known = self.test(node.operand)
            return UNKNOWN if known is UNKNOWN else not known
        return truth(self.value(node))

    def bind_loop(self, target: ast.expr, iterable: ast.expr) -> None:
        """Record the values that a loop gives to its variables."""
        self._bind(target, _element(self.value(iterable)))

    def _bind(self, target: ast.expr, value: object) -> None:
        if isinstance(target, ast.Name) and value is not UNKNOWN:
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, tuple):
            for element, part in zip(target.elts, value, strict=False):
                self._bind(element, part)


def _element(value: object) -> object:
    """Return the value of each element of an iterable, if all are the same."""
    if isinstance(value, Rows):
        return value.element
    if isinstance(value, nn.ModuleList) and len(value):
        return common(list(value))
    return UNKNOWN


def _class_of(node: ast.expr) -> type | None:
    value = meaning(node)
    if isinstance(node, ast.Attribute):
        module = meaning(node.value)
        value = getattr(module, node.attr, None)
    return value if isinstance(value, type) else None


def _compare(op: ast.cmpop, left: object, right: object) -> object:
    if left is UNKNOWN or right is UNKNOWN:
        return UNKNOWN
    if isinstance(op, ast.Is | ast.IsNot):
        if left is None or right is None:
            return (left is right) == isinstance(op, ast.Is)
        return UNKNOWN
    if isinstance(left, nn.Module | torch.Tensor | Marker) or isinstance(right, nn.Module | torch.Tensor | Marker):
        return UNKNOWN
    try:
        return _COMPARISONS[type(op)](left, right)
    except (KeyError, TypeError):
        return UNKNOWN


def _attribute(base: object, name: str) -> object:
    """Return an attribute of an object of the model, or UNKNOWN if it is no value: a method, for example."""
    if isinstance(base, torch.Tensor | Marker) or (is_plain(base) and not hasattr(base, "_fields")):
        return UNKNOWN
    if isinstance(base, Dims) and name == "layer":
        return UNKNOWN
    value = getattr(base, name, UNKNOWN)
    allowed = (nn.Module, Component, Config, Dims, torch.Tensor)
    return value if is_plain(value) or isinstance(value, allowed) else UNKNOWN
