"""The methods of a class and of its base classes, as if one class had them all: `super()` is replaced by its body."""

from __future__ import annotations

import ast
import copy
import types
from collections.abc import Callable, Mapping

from gptzoo.eject.syntax.source import definition

NOT_IN_A_FILE = frozenset(
    {
        *("tensor_parallel", "problems", "migrate", "entry", "exit", "residual_gain", "max_length"),
        *("__init_subclass__", "supports_rollback"),
    }
)
"""Methods of components that serve gptzoo itself."""


class Unsupported(Exception):
    """Raised for code that the specialiser cannot rewrite. The message describes this code."""


def merged_methods(cls: type, is_ours: Callable[[type], bool]) -> dict[str, ast.FunctionDef]:
    """Return the methods of a class by name, with those of its bases that `is_ours` accepts."""
    bases = [base for base in cls.__mro__ if is_ours(base)]
    names: dict[str, None] = {}
    for base in bases:
        for name, value in vars(base).items():
            if name not in NOT_IN_A_FILE and _is_function(value):
                names.setdefault(name)
    return {name: method for name in names if (method := _method(bases, 0, name)) is not None}


def _is_function(value: object) -> bool:
    function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    return isinstance(function, types.FunctionType)


def _method(bases: list[type], start: int, name: str) -> ast.FunctionDef | None:
    """Return the method that `bases[start:]` define, with the calls of `super()` in it replaced."""
    for index in range(start, len(bases)):
        if name in vars(bases[index]):
            break
    else:
        return None
    class_node = definition(bases[index])
    found = [child for child in class_node.body if isinstance(child, ast.FunctionDef) and child.name == name]
    if not found:
        return None
    node: ast.FunctionDef = found[-1]
    node.body = _inline_super(node.body, bases, index + 1)
    return node


def _inline_super(body: list[ast.stmt], bases: list[type], start: int) -> list[ast.stmt]:
    statements: list[ast.stmt] = []
    for statement in body:
        for field in ("body", "orelse"):
            if isinstance(block := getattr(statement, field, None), list) and not isinstance(
                statement, ast.FunctionDef
            ):
                setattr(statement, field, _inline_super(block, bases, start))
        call = _super_call(statement)
        parent = None if call is None else _method(bases, start, call.func.attr)  # type: ignore[attr-defined]
        if call is None or parent is None:
            statements.append(statement)
        else:
            statements += _parent_body(statement, call, parent)
    return statements


def _super_call(statement: ast.stmt) -> ast.Call | None:
    value = getattr(statement, "value", None)
    match value:
        case ast.Call(func=ast.Attribute(value=owner)) if ast.unparse(owner) == "super()":
            return value
    return None


def _parent_body(statement: ast.stmt, call: ast.Call, parent: ast.FunctionDef) -> list[ast.stmt]:
    """Return the body of the parent's method in place of a statement that calls it."""
    given = arguments_of(parent, call, skip_first=True)
    if given is None:
        raise Unsupported(f"the arguments of {ast.unparse(call)} cannot be matched with parameters")
    assigned = {
        node.id for node in ast.walk(parent) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    changed = {
        name: value
        for name, value in given.items()
        if value is not None and not (isinstance(value, ast.Name) and value.id == name)
    }
    first: list[ast.stmt] = [
        ast.Assign([ast.Name(name, ast.Store())], value) for name, value in changed.items() if name in assigned
    ]
    names = {name: value for name, value in changed.items() if name not in assigned}
    body = first + [Substitute(names).visit(copy.deepcopy(child)) for child in without_docstring(parent)]
    if isinstance(statement, ast.Expr | ast.Return):
        return body
    *rest, last = body
    if isinstance(statement, ast.Assign) and isinstance(last, ast.Return) and last.value is not None:
        return [*rest, ast.Assign(statement.targets, last.value)]
    raise Unsupported(f"the result of {ast.unparse(call)} is used in a way that cannot be inlined")


def without_docstring(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return the statements of a function after its docstring."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def arguments_of(function: ast.FunctionDef, call: ast.Call, *, skip_first: bool) -> dict[str, ast.expr | None] | None:
    """Return the expression for each parameter of a call, or None if they cannot be matched.

    A parameter without argument has its default, or None.
    """
    parameters = [argument.arg for argument in function.args.args][1 if skip_first else 0 :]
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    if starred or any(keyword.arg is None for keyword in call.keywords) or len(call.args) > len(parameters):
        return None
    given: dict[str, ast.expr | None] = dict(zip(parameters, call.args, strict=False))
    given |= {keyword.arg or "": keyword.value for keyword in call.keywords}
    for name, default in defaults_of(function).items():
        given.setdefault(name, default)
    names = [*parameters, *(argument.arg for argument in function.args.kwonlyargs)]
    return {name: given.get(name) for name in names}


def defaults_of(function: ast.FunctionDef) -> dict[str, ast.expr]:
    """Return the defaults of the parameters that have one."""
    arguments = function.args
    positional = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    defaults = {argument.arg: default for argument, default in zip(positional, arguments.defaults, strict=True)}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            defaults[argument.arg] = default
    return defaults


class Substitute(ast.NodeTransformer):
    """Replaces names by expressions."""

    def __init__(self, names: Mapping[str, ast.expr]):
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.names:
            return copy.deepcopy(self.names[node.id])
        return node
