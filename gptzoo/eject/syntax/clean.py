"""Removal of what folding leaves behind: unused names, aliases of attributes, and detours to `return`."""

from __future__ import annotations

import ast
import re
from collections import Counter

from gptzoo.eject.syntax.merge import Substitute
from gptzoo.eject.syntax.source import own_attribute

_EFFECT = re.compile(r"_\(|\bextend\(|register_buffer|\.pop\(|\.append\(")
"""Calls that change something: torch names such functions with a final underscore."""
_MAX_PASSES = 10


def clean(function: ast.FunctionDef) -> ast.FunctionDef:
    """Return the function without unused local names and without names that only rename."""
    for _ in range(_MAX_PASSES):
        before = ast.dump(function)
        _remove_unused(function)
        _remove_alias(function)
        _shorten_zips(function)
        if ast.dump(function) == before:
            break
    _return_directly(function)
    _join_equal_returns(function)
    return function


def _join_equal_returns(function: ast.FunctionDef) -> None:
    """Turn `if …: return x` before `return x` into `return x`."""
    match function.body:
        case [*_, ast.If(body=[ast.Return() as first], orelse=[]), ast.Return() as last]:
            if ast.dump(first) == ast.dump(last):
                del function.body[-2]


def _names(function: ast.AST, context: type[ast.expr_context]) -> Counter[str]:
    nodes = (node for node in ast.walk(function) if isinstance(node, ast.Name))
    return Counter(node.id for node in nodes if isinstance(node.ctx, context))


def _remove_unused(function: ast.FunctionDef) -> None:
    loads = _names(function, ast.Load)
    for node in ast.walk(function):  # a name that only its own new values read is unused, too
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                loads[name] -= _names(value, ast.Load)[name]
    loads = +loads

    class Remover(ast.NodeTransformer):
        def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
            names = _plain_targets(node.targets[0])
            unused = names is not None and not any(name in loads for name in names)
            return None if unused and not _EFFECT.search(ast.unparse(node.value)) else node

        def visit_With(self, node: ast.With) -> ast.With | None:
            self.generic_visit(node)
            return node if node.body else None

        def visit_For(self, node: ast.For) -> ast.For | None:
            self.generic_visit(node)
            return node if node.body else None

        def visit_If(self, node: ast.If) -> ast.If | None:
            self.generic_visit(node)
            return node if node.body or node.orelse else None

        def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
            self.generic_visit(node)
            return node if node.target.id in loads else node.value

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | None:
            self.generic_visit(node)
            return node if node is function or node.name in loads else None

    Remover().visit(function)


def _shorten_zips(function: ast.FunctionDef) -> None:
    """Remove the arguments of `zip` whose elements nothing reads."""
    loads = _names(function, ast.Load)
    for node in ast.walk(function):
        match node:
            case (
                ast.comprehension(target=ast.Tuple(elts=targets), iter=ast.Call(func=ast.Name(id="zip"), args=args))
                | ast.For(target=ast.Tuple(elts=targets), iter=ast.Call(func=ast.Name(id="zip"), args=args))
            ):
                pairs = zip(targets, args, strict=False)
                kept = [(t, a) for t, a in pairs if not isinstance(t, ast.Name) or t.id in loads]
                if not 0 < len(kept) < len(targets) == len(args):
                    continue
                if len(kept) == 1:
                    node.target, node.iter = kept[0]
                else:
                    targets[:], args[:] = map(list, zip(*kept, strict=True))


def _plain_targets(target: ast.expr) -> list[str] | None:
    """Return the names that an assignment binds, or None if it stores anything else."""
    if isinstance(target, ast.Name):
        return [target.id]
    if isinstance(target, ast.Tuple) and all(isinstance(element, ast.Name) for element in target.elts):
        return [element.id for element in target.elts if isinstance(element, ast.Name)]
    return None


def _remove_alias(function: ast.FunctionDef) -> None:
    """Replace one name that is assigned once, from a name or attribute that does not change."""
    loads, stores = _names(function, ast.Load), _names(function, ast.Store)
    parameters = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or not isinstance(target := node.targets[0], ast.Name):
            continue
        if stores[target.id] != 1 or target.id in parameters:
            continue
        value = node.value
        is_constant = own_attribute(value) is not None
        is_fixed = isinstance(value, ast.Name) and stores[value.id] + (value.id in parameters) <= 1
        if (is_constant and loads[target.id] == 1 and function.name != "__init__") or is_fixed:
            _drop(function, node)
            Substitute({target.id: value}).visit(function)
            return


def _drop(function: ast.FunctionDef, dropped: ast.stmt) -> None:
    class Dropper(ast.NodeTransformer):
        def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
            return None if node is dropped else node

    Dropper().visit(function)


def _return_directly(function: ast.FunctionDef) -> None:
    """Turn `y = …; return y` into `return …`."""
    for node in ast.walk(function):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or len(body) < 2:
            continue
        before, last = body[-2:]
        match before, last:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Return(value=ast.Name(id=returned)) if name == returned:
                last.value = before.value
                last.before, last.after = getattr(before, "before", []), getattr(before, "after", None)  # type: ignore[attr-defined]
                del body[-2]
